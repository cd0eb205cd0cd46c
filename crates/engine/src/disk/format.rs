//! The format file, which marks a directory as an engine's.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::EngineError;

/// The format file's name and content.
const FORMAT_FILE: &str = "engine.format";
const FORMAT: &str = "synod-engine 1\n";

/// Accepts an engine's directory. Initializes a missing or empty one.
pub(super) fn check_or_create(dir: &Path) -> Result<(), EngineError> {
    match fs::read_to_string(dir.join(FORMAT_FILE)) {
        Ok(found) if found == FORMAT => Ok(()),
        Ok(found) => Err(foreign(dir, format!("its format is {:?}", found.trim()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(dir),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(foreign(dir, "it is a file".to_owned()))
        }
        Err(error) => Err(io_error(dir, error)),
    }
}

/// Removes an engine's directory. The format file is removed last, so that an interrupted removal
/// can be repeated.
pub(super) fn destroy(dir: &Path) -> Result<(), EngineError> {
    if !dir.try_exists().map_err(|error| io_error(dir, error))? {
        return Ok(());
    }
    check_or_create(dir)?;
    let remove = || -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else if entry.file_name() != FORMAT_FILE {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_file(dir.join(FORMAT_FILE))?;
        fs::remove_dir(dir)
    };
    remove().map_err(|error| io_error(dir, error))
}

fn create(dir: &Path) -> Result<(), EngineError> {
    let result = || -> io::Result<Option<String>> {
        fs::create_dir_all(dir)?;
        if let Some(entry) = fs::read_dir(dir)?.next() {
            return Ok(Some(entry?.file_name().to_string_lossy().into_owned()));
        }
        let mut file = File::create_new(dir.join(FORMAT_FILE))?;
        file.write_all(FORMAT.as_bytes())?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(None)
    };
    match result() {
        Ok(None) => Ok(()),
        Ok(Some(entry)) => Err(foreign(dir, format!("it contains {entry:?}"))),
        Err(error) => Err(io_error(dir, error)),
    }
}

fn foreign(dir: &Path, detail: String) -> EngineError {
    EngineError::Foreign {
        dir: dir.to_owned(),
        detail,
    }
}

pub(super) fn io_error(dir: &Path, source: io::Error) -> EngineError {
    EngineError::Io {
        dir: dir.to_owned(),
        source,
    }
}
