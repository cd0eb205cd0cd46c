//! Files that survive a power loss.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Writes the file `name` in `dir` atomically and durably: after a power loss there is the old file
/// or the new one. Uses `name.tmp` on the way.
///
/// # Errors
/// An I/O error; then there is the old file or the new one.
pub(crate) fn write_durably(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, dir.join(name))?;
    sync_directory(dir)
}

/// Makes the directory's entries durable.
///
/// # Errors
/// An I/O error.
pub(crate) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_leaves_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        for content in [&b"long content"[..], b"short"] {
            write_durably(temp.path(), "file", content).unwrap();
            assert_eq!(fs::read(temp.path().join("file")).unwrap(), content);
        }
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
        assert!(write_durably(&temp.path().join("absent"), "file", b"").is_err());
    }
}
