//! Builds this crate again when the page was built: the page is embedded, and a page that appears is not seen otherwise.

fn main() {
    // A path that does not exist would mean "always build again".
    let watched = ["../../ui/dist", "../../ui", "src"].into_iter().find(|p| std::path::Path::new(p).exists()).unwrap_or("src");
    println!("cargo::rerun-if-changed={watched}");
}
