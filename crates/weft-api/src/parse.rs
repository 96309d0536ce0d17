//! Text to documents: the one door for files, Kubernetes, Git and the REST API.

use crate::diag::{self, Diagnostic};
use crate::document::{Document, ObjectMeta, Parsed, Resource};
use crate::kinds::{self, Found, Kind};
use crate::limits::{DOCUMENT_BYTES_MAX, DOCUMENTS_MAX, TEXT_BYTES_MAX};
use crate::node::{Node, Value};
use crate::read::{Path, Read, Reader};
use crate::yaml::{self, Chunk, Loaded, Problem, ProblemKind};
use std::collections::BTreeMap;
use weft_model::Origin;

/// Reads all resources of a text. Never fails: what is wrong is in the diagnostics, each with `file` and its line.
pub fn parse(text: &str, file: &str) -> Parsed {
    parse_at(text, file, 1)
}

/// As [`parse`], for a text that starts on `first_line` of the file.
pub fn parse_at(text: &str, file: &str, first_line: u32) -> Parsed {
    let mut session = Session { file, parsed: Parsed::default() };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > TEXT_BYTES_MAX {
        session.say(diag::over_limit(session.place(first_line), "bytes of text", TEXT_BYTES_MAX));
        return session.parsed;
    }
    for chunk in yaml::split(text, first_line) {
        if session.parsed.documents.len() >= DOCUMENTS_MAX || session.parsed.diagnostics.len() >= DOCUMENTS_MAX {
            session.say(diag::over_limit(session.place(chunk.line), "documents or findings in one text", DOCUMENTS_MAX));
            return session.parsed;
        }
        session.chunk(&chunk);
    }
    if session.parsed.documents.is_empty() && session.parsed.diagnostics.is_empty() {
        session.say(diag::nothing_there(session.place(first_line)));
    }
    session.parsed
}

/// As [`parse`], for bytes that may not be UTF-8.
pub fn parse_bytes(bytes: &[u8], file: &str) -> Parsed {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text, file),
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = u32::try_from(good.iter().filter(|b| **b == b'\n').count()).unwrap_or(u32::MAX).saturating_add(1);
            let mut parsed = parse(&String::from_utf8_lossy(bytes), file);
            parsed.diagnostics.insert(0, diag::not_utf8(Origin { file: file.into(), line, ..Origin::default() }));
            parsed
        }
    }
}

/// The state of one call of [`parse`].
struct Session<'f> {
    file: &'f str,
    parsed: Parsed,
}

/// The text that a document was read from.
#[derive(Clone, Copy)]
struct Source<'t> {
    text: &'t str,
    line: u32,
}

impl Session<'_> {
    fn say(&mut self, diagnostic: Diagnostic) {
        self.parsed.diagnostics.push(diagnostic);
    }

    fn place(&self, line: u32) -> Origin {
        Origin { file: self.file.into(), line, ..Origin::default() }
    }

    /// One part between `---` lines: usually one document.
    fn chunk(&mut self, chunk: &Chunk<'_>) {
        if chunk.text.len() > DOCUMENT_BYTES_MAX {
            self.say(diag::over_limit(self.place(chunk.line), "bytes in one document", DOCUMENT_BYTES_MAX));
            return;
        }
        let (text, line) = chunk.body();
        let documents = yaml::load(text, line);
        let alone = documents.len() == 1;
        for loaded in documents {
            match loaded {
                Ok(loaded) if alone => self.document(loaded, Source { text, line }),
                // Documents may also be parted by `...` alone.
                Ok(loaded) => {
                    let (text, line) = (cut_out(&loaded.node, text), loaded.node.line);
                    self.document(loaded, Source { text: &text, line });
                }
                Err(problem) => self.problem(problem, chunk.text),
            }
        }
    }

    /// A document that is not YAML.
    fn problem(&mut self, problem: Problem, text: &str) {
        let mut place = self.place(problem.line);
        (place.kind, place.name) = guess_object(text);
        self.say(match problem.what {
            ProblemKind::Limit(what, max) => diag::over_limit(place, what, max),
            ProblemKind::Syntax(_) if text.contains("{{") => diag::template(place),
            ProblemKind::Syntax(why) => diag::not_yaml(place, &why),
        });
    }

    /// A document that is YAML: a resource, a list of them, or something else.
    fn document(&mut self, loaded: Loaded, source: Source<'_>) {
        if matches!(loaded.node.value, Value::Null) {
            return;
        }
        if !loaded.twice.is_empty() {
            let place = self.identity(&loaded.node);
            for twice in &loaded.twice {
                self.say(diag::field_twice(Origin { line: twice.line, ..place.clone() }, &twice.name, twice.first_line));
            }
        }
        self.resource(&loaded.node, source, !loaded.twice.is_empty());
    }

    /// The origin of an object, as far as it says who it is.
    fn identity(&self, node: &Node) -> Origin {
        let mut place = self.place(node.line);
        place.kind = text(node, "kind");
        let version = text(node, "apiVersion");
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let namespace = kinds::find(group, &place.kind).default_namespace();
        header(node, &mut place, namespace);
        place
    }

    /// One object: a resource, or a `List` of them.
    fn resource(&mut self, node: &Node, source: Source<'_>, broken: bool) {
        let mut place = self.place(node.line);
        let Value::Object(_) = &node.value else {
            return self.say(diag::not_a_resource(place, &format!("it is {}", node.what())));
        };
        let (api_version, kind) = match (node.field("apiVersion"), node.field("kind")) {
            (Some(api_version), Some(kind)) => (api_version, kind),
            (None, _) => return self.say(diag::not_a_resource(place, "it has no apiVersion")),
            (_, None) => return self.say(diag::not_a_resource(place, "it has no kind")),
        };
        let (Some(version), Some(name)) = (api_version.text(), kind.text()) else {
            return self.say(diag::not_a_resource(place, "apiVersion and kind must be text"));
        };
        if let Some(Value::List(items)) = node.field("items").map(|n| &n.value).filter(|_| name.ends_with("List")) {
            for item in items {
                self.item(item, source, broken);
            }
            return;
        }
        place.kind = name.into();
        let (group, number) = version.split_once('/').unwrap_or(("", version));
        match kinds::find(group, name) {
            Found::Known(known) => self.known(node, known, number, source, broken),
            found => {
                let document = header(node, &mut place, found.default_namespace())
                    .map(|meta| self.make(meta, &place, Resource::Unknown, node, source));
                let at = Origin { line: kind.line, ..place };
                self.say(match found {
                    Found::Later => diag::kind_not_acted_on(at),
                    Found::WithoutEffect(_) => diag::kind_without_effect(at),
                    Found::Known(_) => return,
                    Found::Unknown(meant) => diag::unknown_kind(at, version, name, meant),
                });
                self.parsed.documents.extend(document);
            }
        }
    }

    /// One item of a `List`, with a text of its own.
    fn item(&mut self, item: &Node, source: Source<'_>, broken: bool) {
        let cut = cut_out(item, source.text);
        // The cut text must say the same on its own: an alias of an anchor elsewhere in the list would not.
        let same = yaml::load(&cut, item.line);
        match same.as_slice() {
            [Ok(loaded)] if loaded.node.to_json() == item.to_json() => {
                self.resource(&loaded.node, Source { text: &cut, line: item.line }, broken);
            }
            _ => {
                let json = format!("{:#}", item.to_json());
                self.resource(item, Source { text: &json, line: item.line }, broken);
            }
        }
    }

    /// A resource of a known kind.
    fn known(&mut self, node: &Node, known: &'static Kind, version: &str, source: Source<'_>, broken: bool) {
        let mut place = Origin { kind: known.kind.into(), ..self.place(node.line) };
        let meta = header(node, &mut place, Found::Known(known).default_namespace());
        let mut reader = Reader::new(place.clone());
        if !known.versions.contains(&version) {
            let line = node.field("apiVersion").map_or(node.line, |n| n.line);
            let found = node.field("apiVersion").and_then(Node::text).unwrap_or_default();
            reader.report(diag::unknown_version(place.at(line, "apiVersion"), found, &known.api_version()));
        }
        if !known.whole {
            check_top(node, known, &mut reader);
        }
        check_metadata(node, &mut reader);
        let empty = kinds::empty_object(node.line);
        let resource = match known.whole {
            true => (known.read)(node, &Path::Root, &mut reader),
            false => (known.read)(node.field("spec").unwrap_or(&empty), &Path::Name(&Path::Root, "spec"), &mut reader),
        };
        let resource = resource.filter(|_| !broken && !reader.failed()).unwrap_or(Resource::Invalid);
        self.parsed.diagnostics.extend(reader.finish());
        if let Some(meta) = meta {
            let document = self.make(meta, &place, resource, node, source);
            self.parsed.documents.push(document);
        }
    }

    fn make(&self, mut meta: ObjectMeta, origin: &Origin, resource: Resource, node: &Node, source: Source<'_>) -> Document {
        meta.order = self.parsed.documents.len() as u64;
        Document { meta, origin: origin.clone(), resource, raw: source.text.into(), first_line: source.line, json: node.to_json() }
    }
}

/// Kind and name of a text that is not YAML: so that the message can name the object that the user thinks of.
fn guess_object(text: &str) -> (String, String) {
    let word = |prefix: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(prefix)).unwrap_or_default().trim();
        value.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')).take(253).collect::<String>()
    };
    match (word("kind:"), word("  name:")) {
        (kind, name) if kind.is_empty() || name.is_empty() => Default::default(),
        found => found,
    }
}

/// The text of a field; empty when it has none.
fn text(node: &Node, name: &str) -> String {
    node.field(name).and_then(Node::text).unwrap_or_default().to_owned()
}

/// The metadata of an object that has a name; completes `place` with namespace and name. Without a namespace of its own the object
/// is in `default_namespace`; `None` stands for kinds that are in no namespace.
fn header(node: &Node, place: &mut Origin, default_namespace: Option<&str>) -> Option<ObjectMeta> {
    let map = |node: &Node, name: &str| -> BTreeMap<String, String> {
        let Some(Value::Object(fields)) = node.field(name).map(|n| &n.value) else { return BTreeMap::new() };
        fields.iter().filter_map(|f| Some((f.name.clone(), f.node.text()?.to_owned()))).collect()
    };
    let metadata = node.field("metadata")?;
    place.name = text(metadata, "name");
    place.namespace = match (default_namespace, text(metadata, "namespace")) {
        (None, _) => String::new(),
        (Some(default), namespace) if namespace.is_empty() => default.into(),
        (Some(_), namespace) => namespace,
    };
    (!place.name.is_empty()).then(|| ObjectMeta {
        api_version: text(node, "apiVersion"),
        kind: text(node, "kind"),
        namespace: place.namespace.clone(),
        name: place.name.clone(),
        labels: map(metadata, "labels"),
        annotations: map(metadata, "annotations"),
        created: Some(text(metadata, "creationTimestamp")).filter(|t| !t.is_empty()),
        order: 0,
    })
}

object! {
    /// The metadata that a user may write; a server's own fields are inert.
    #[allow(unreachable_pub, reason = "declared like the types of the API, used here only")]
    pub struct Metadata {
        /// Name.
        name: String = "name",
        /// Namespace.
        namespace: Option<String> = "namespace",
        /// Labels.
        labels: BTreeMap<String, String> = "labels",
        /// Annotations.
        annotations: BTreeMap<String, String> = "annotations",
    }
    inert [
        "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName", "generation", "managedFields",
        "ownerReferences", "resourceVersion", "selfLink", "uid",
    ]
}

/// Reports what is wrong with the metadata.
fn check_metadata(node: &Node, reader: &mut Reader) {
    let path = Path::Name(&Path::Root, "metadata");
    let Some(metadata) = node.field("metadata") else {
        let place = reader.place(node.line, &path);
        return reader.report(diag::missing_field(place));
    };
    let Some(read) = Metadata::read(metadata, &path, reader) else { return };
    let mut check = |field: &str, value: &str, legal: bool, rule: &str| {
        if !legal {
            let line = metadata.field(field).map_or(metadata.line, |n| n.line);
            let place = reader.place(line, &Path::Name(&path, field));
            reader.report(diag::bad_name(place, value, rule));
        }
    };
    let rule = "lower-case letters, digits, '-' and '.', 253 characters at most, beginning and ending with a letter or digit";
    check("name", &read.name, is_name(&read.name, 253, true), rule);
    if let Some(namespace) = &read.namespace {
        let rule = "lower-case letters, digits and '-', 63 characters at most, beginning and ending with a letter or digit";
        check("namespace", namespace, is_name(namespace, 63, false), rule);
    }
}

/// Is it a DNS-1123 subdomain (with dots) or label?
fn is_name(text: &str, bytes_max: usize, dots: bool) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || (dots && b == b'.');
    let bytes = text.as_bytes();
    bytes.len() <= bytes_max && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| legal(*b))
}

/// Reports unknown fields beside `spec`.
fn check_top(node: &Node, known: &Kind, reader: &mut Reader) {
    let top = crate::read::Known { fields: &["apiVersion", "kind", "metadata", "spec"], later: &[], inert: &["status"], open: known.open };
    if let Value::Object(fields) = &node.value {
        reader.check_fields(fields, &Path::Root, &top);
    }
}

/// The text of a list item alone, moved to the left margin.
fn cut_out(item: &Node, text: &str) -> String {
    let cut = text.get(item.bytes.0..item.bytes.1).unwrap_or_default().trim_end();
    let mut out = String::with_capacity(cut.len() + 1);
    for (i, line) in cut.split_inclusive('\n').enumerate() {
        let margin = line.bytes().take_while(|b| *b == b' ').count().min(item.column);
        out.push_str(if i == 0 { line } else { line.get(margin..).unwrap_or(line) });
    }
    out.push('\n');
    out
}
