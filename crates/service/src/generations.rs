//! The engine's directory: the generation of data in use, and at most one that is being received.
//!
//! ```text
//! engine/CURRENT        the name of the generation in use
//! engine/gen-00000001/  its data
//! engine/gen-00000002/  a snapshot that is being received, or the generation before the last one
//! ```
//! `CURRENT` is replaced atomically and durably once the new generation is complete and durable. A
//! power loss leaves either the old state or the new one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::durable::{sync_directory, write_durably};

const CURRENT: &str = "CURRENT";

/// The generations of an engine.
#[derive(Debug)]
pub struct Generations {
    root: PathBuf,
    current: u64,
}

impl Generations {
    /// Makes the directory with its first generation.
    ///
    /// # Errors
    /// An I/O error.
    pub fn create(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let mut generations = Self {
            root: root.to_owned(),
            current: 0,
        };
        let first = generations.prepare()?;
        sync_directory(&generations.path_of(first))?;
        generations.switch(first)?;
        Ok(generations)
    }

    /// Finds the generation in use and removes all others.
    ///
    /// # Errors
    /// An I/O error, or a `CURRENT` that does not name a generation.
    pub fn open(root: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(root.join(CURRENT))?;
        let current = text
            .trim()
            .strip_prefix("gen-")
            .and_then(|n| n.parse().ok());
        let current = current.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{CURRENT} holds {text:?} and not the name of a generation"),
            )
        })?;
        let generations = Self {
            root: root.to_owned(),
            current,
        };
        if !generations.path().is_dir() {
            let path = generations.path();
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{} is missing", path.display()),
            ));
        }
        generations.remove_others()?;
        Ok(generations)
    }

    /// The directory of the generation in use.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.path_of(self.current)
    }

    /// Makes an empty directory for the next generation.
    ///
    /// # Errors
    /// An I/O error.
    pub fn prepare(&mut self) -> io::Result<u64> {
        let next = self.current + 1;
        let path = self.path_of(next);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        sync_directory(&self.root)?;
        Ok(next)
    }

    /// The directory of a generation.
    #[must_use]
    pub fn path_of(&self, generation: u64) -> PathBuf {
        self.root.join(name(generation))
    }

    /// Switches to another generation, which must be complete and durable.
    ///
    /// # Errors
    /// An I/O error; then a restart may use either generation.
    pub fn switch(&mut self, generation: u64) -> io::Result<()> {
        let text = format!("{}\n", name(generation));
        write_durably(&self.root, CURRENT, text.as_bytes())?;
        self.current = generation;
        Ok(())
    }

    /// Removes the generations that are not in use. Nothing may have them open.
    ///
    /// # Errors
    /// An I/O error.
    pub fn remove_others(&self) -> io::Result<()> {
        let keep = name(self.current);
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let other = entry.file_name();
            let other = other.to_string_lossy();
            if other.starts_with("gen-") && *other != keep {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

fn name(generation: u64) -> String {
    format!("gen-{generation:08}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_survives_and_an_unfinished_generation_does_not() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("engine");
        let mut generations = Generations::create(&root).unwrap();
        fs::write(generations.path().join("data"), b"old").unwrap();

        let next = generations.prepare().unwrap();
        fs::write(generations.path_of(next).join("data"), b"half").unwrap();
        let mut generations = Generations::open(&root).unwrap();
        assert_eq!(fs::read(generations.path().join("data")).unwrap(), b"old");
        assert!(!generations.path_of(next).exists());

        let next = generations.prepare().unwrap();
        fs::write(generations.path_of(next).join("data"), b"new").unwrap();
        generations.switch(next).unwrap();
        let generations = Generations::open(&root).unwrap();
        assert_eq!(fs::read(generations.path().join("data")).unwrap(), b"new");
        assert_eq!(
            fs::read_dir(&root).unwrap().count(),
            2,
            "CURRENT and one generation"
        );
    }

    #[test]
    fn a_damaged_pointer_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        Generations::create(temp.path()).unwrap();
        fs::write(temp.path().join(CURRENT), "gen-00000007\n").unwrap();
        assert!(Generations::open(temp.path()).is_err());
        fs::write(temp.path().join(CURRENT), "seven").unwrap();
        assert!(Generations::open(temp.path()).is_err());
    }
}
