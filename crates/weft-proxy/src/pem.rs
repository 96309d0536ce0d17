//! Certificates and keys in files of this machine.

use weft_model::Pem;

/// Replaces the name of a file by its text.
///
/// # Errors
/// When it cannot be read or is too large to be a certificate.
pub(crate) fn read_in(pem: &mut Pem) -> Result<(), String> {
    if let Pem::File { file } = pem {
        *pem = Pem::Text(read(file)?);
    }
    Ok(())
}

/// The text, of a file or as it stands.
///
/// # Errors
/// When a file cannot be read or is too large to be a certificate.
pub(crate) fn text(pem: &Pem) -> Result<String, String> {
    match pem {
        Pem::Text(text) => Ok(text.clone()),
        Pem::File { file } => read(file),
    }
}

fn read(file: &str) -> Result<String, String> {
    let size = std::fs::metadata(file).map_err(|error| format!("{file}: {error}"))?.len();
    if size > crate::limits::PEM_FILE_BYTES_MAX {
        return Err(format!("{file} has {size} bytes, which no certificate has"));
    }
    std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))
}
