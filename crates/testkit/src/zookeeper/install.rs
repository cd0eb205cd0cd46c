//! Installs ZooKeeper with Maven, in the cache of the other peers.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::all_jars;
use crate::peers::{cache_folder, find_program, output_of};

/// The release that tests compare us with. It is fixed so that a release of ZooKeeper can't change
/// our test results.
pub const VERSION: &str = "3.9.5";

/// What the server needs at run time: its metrics and snapshots don't work without the libraries
/// that its own POM leaves to its distribution, slf4j-simple shows its log, and the command line
/// needs commons-cli.
const ARTIFACTS: [(&str, &str, &str); 5] = [
    ("org.apache.zookeeper", "zookeeper", VERSION),
    ("io.dropwizard.metrics", "metrics-core", "4.2.30"),
    ("org.xerial.snappy", "snappy-java", "1.1.10.7"),
    ("org.slf4j", "slf4j-simple", "2.0.13"),
    ("commons-cli", "commons-cli", "1.5.0"),
];

/// An installed ZooKeeper.
#[derive(Clone, Debug)]
pub struct Installed {
    libraries: PathBuf,
}

impl Installed {
    /// The class path of the server and its command-line client.
    #[must_use]
    pub fn class_path(&self) -> OsString {
        all_jars(&self.libraries)
    }

    /// One line that says what is installed and where.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "ZooKeeper {VERSION} (Maven) in {}",
            self.libraries.display()
        )
    }
}

/// Installs ZooKeeper unless it is installed already.
///
/// # Errors
/// The cache directory isn't writable, or Maven is missing or failed.
pub fn install() -> Result<Installed> {
    let folder = cache_folder()?
        .join("peers")
        .join(format!("zookeeper-{VERSION}"));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let lock = File::create(folder.join("lock")).context("create the installation's lock file")?;
    lock.lock()
        .context("wait for another installation of ZooKeeper")?;
    let pom = pom();
    // The POM is copied last: a directory without it, or with another, is not finished.
    let finished = folder.join("finished.xml");
    let libraries = folder.join("lib");
    if fs::read_to_string(&finished).is_ok_and(|text| text == pom) {
        return Ok(Installed { libraries });
    }
    if libraries.exists() {
        fs::remove_dir_all(&libraries)?;
    }
    let maven = find_program("mvn").context("mvn is not on PATH: install Maven and a JDK 17")?;
    let file = folder.join("pom.xml");
    fs::write(&file, &pom)?;
    output_of(
        Command::new(maven)
            .args(["-q", "-B", "-f"])
            .arg(&file)
            .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(format!("-DoutputDirectory={}", libraries.display())),
    )
    .with_context(|| format!("install ZooKeeper {VERSION} with Maven"))?;
    fs::write(&finished, &pom)?;
    Ok(Installed { libraries })
}

fn pom() -> String {
    let mut dependencies = String::new();
    for (group, artifact, version) in ARTIFACTS {
        dependencies += &format!(
            "    <dependency>\n      <groupId>{group}</groupId>\n      \
             <artifactId>{artifact}</artifactId>\n      <version>{version}</version>\n    \
             </dependency>\n"
        );
    }
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  \
         <modelVersion>4.0.0</modelVersion>\n  <groupId>synod</groupId>\n  \
         <artifactId>zookeeper-peer</artifactId>\n  <version>1</version>\n  \
         <packaging>pom</packaging>\n  <dependencies>\n{dependencies}  </dependencies>\n\
         </project>\n"
    )
}
