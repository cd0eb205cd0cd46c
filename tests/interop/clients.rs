//! Installs the clients and builds the programs that use them, once per version, in the cache that
//! holds the peers too. Lock files beside the programs pin every dependency.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use synod_testkit::peers;

/// How to start a program.
#[derive(Clone, Debug)]
pub(crate) struct Runnable {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) envs: Vec<(String, String)>,
}

/// The plugin that copies jetcd and its dependencies.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// `tests/interop`.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop")
}

/// The Go program.
pub(crate) fn go() -> Result<Runnable> {
    Ok(runnable(go_program("go")?, &[]))
}

/// Builds the Go program in this folder.
fn go_program(name: &str) -> Result<PathBuf> {
    let source = sources().join(name);
    let folder = install(name, &source, &["mod", "sum", "go"], |folder| {
        finish(
            Command::new("go")
                .args(["build", "-trimpath", "-buildvcs=false", "-o"])
                .arg(folder.join("interop"))
                .arg(".")
                .current_dir(&source)
                .env("GOWORK", "off")
                .env("GOFLAGS", "-mod=readonly"),
        )
    })?;
    Ok(folder.join("interop"))
}

/// The Python program.
pub(crate) fn python() -> Result<Runnable> {
    let source = sources().join("python");
    let folder = virtual_environment("python", &source)?;
    let program = source.join("interop.py");
    Ok(runnable(
        folder.join("bin/python"),
        &["-B", text(&program)?],
    ))
}

/// Installs what `requirements.txt` names.
fn virtual_environment(name: &str, source: &Path) -> Result<PathBuf> {
    install(name, source, &["txt"], |folder| {
        finish(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        finish(
            Command::new(folder.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check"])
                .args(["--no-deps", "--only-binary=:all:", "--require-hashes", "-r"])
                .arg(source.join("requirements.txt")),
        )
    })
}

/// The Node program.
pub(crate) fn node() -> Result<Runnable> {
    let source = sources().join("node");
    let folder = install("node", &source, &["json"], |folder| {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(source.join(name), folder.join(name))?;
        }
        let words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        finish(Command::new("npm").args(words).current_dir(folder))
    })?;
    let mut runnable = runnable("node".into(), &[text(&source.join("interop.js"))?]);
    let modules = folder.join("node_modules");
    runnable.envs = vec![("NODE_PATH".into(), text(&modules)?.to_owned())];
    Ok(runnable)
}

/// The Java program.
pub(crate) fn java() -> Result<Runnable> {
    let path = classes("java", &sources().join("java"))?;
    Ok(runnable("java".into(), &java_args(&path, "Interop")))
}

/// Copies the libraries and compiles the sources in a folder. Returns the class path.
fn classes(name: &str, source: &Path) -> Result<String> {
    let libraries = install(name, source, &["xml"], |folder| {
        let output = format!("-DoutputDirectory={}", text(folder)?);
        let pom = source.join("pom.xml");
        finish(
            Command::new("mvn")
                .args(["-q", "-B", "-f"])
                .arg(pom)
                .args([COPY, &output]),
        )
    })?;
    let path = format!("{}/*", text(&libraries)?);
    let compiled = format!("{name}-classes");
    let classes = install(&compiled, source, &["xml", "java"], |folder| {
        let mut command = Command::new("javac");
        command.args(["-cp", &path, "-d"]).arg(folder);
        for entry in fs::read_dir(source)? {
            let file = entry?.path();
            if file.extension() == Some(OsStr::new("java")) {
                command.arg(file);
            }
        }
        finish(&mut command)
    })?;
    Ok(format!("{path}:{}", text(&classes)?))
}

/// One heap and one collector thread: a small program on a small machine.
fn java_args<'a>(path: &'a str, class: &'a str) -> [&'a str; 5] {
    [
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        path,
        class,
    ]
}

/// ZooKeeper's Python client.
pub(crate) fn kazoo() -> Result<Runnable> {
    kazoo_program("recipes.py")
}

/// The same client with SASL.
pub(crate) fn kazoo_sasl() -> Result<Runnable> {
    kazoo_program("sasl.py")
}

fn kazoo_program(name: &str) -> Result<Runnable> {
    let source = sources().join("kazoo");
    let folder = virtual_environment("kazoo", &source)?;
    let program = source.join(name);
    Ok(runnable(
        folder.join("bin/python"),
        &["-B", text(&program)?],
    ))
}

/// Recipes of ZooKeeper's Java client.
pub(crate) fn curator() -> Result<Runnable> {
    let path = classes("curator", &sources().join("curator"))?;
    Ok(runnable("java".into(), &java_args(&path, "Recipes")))
}

/// A client of ZooKeeper in Go.
pub(crate) fn gozk() -> Result<Runnable> {
    Ok(runnable(go_program("gozk")?, &[]))
}

fn runnable(program: PathBuf, args: &[&str]) -> Runnable {
    Runnable {
        program,
        args: args.iter().map(|word| (*word).to_owned()).collect(),
        envs: Vec::new(),
    }
}

/// The directory of a client, made by `make` unless it has been made from the same files. Other
/// versions of it are removed.
fn install(
    name: &str,
    source: &Path,
    extensions: &[&str],
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let base = peers::cache_folder()?.join("clients").join(name);
    fs::create_dir_all(&base).with_context(|| format!("create {}", base.display()))?;
    let lock = File::create(base.join("lock"))?;
    lock.lock().context("wait for another installation")?;
    let folder = base.join(digest(source, extensions)?);
    // Written last: a directory without it is an interrupted installation.
    let finished = folder.join("finished");
    if !finished.exists() {
        for entry in fs::read_dir(&base)? {
            let path = entry?.path();
            if path.is_dir() {
                fs::remove_dir_all(path)?;
            }
        }
        fs::create_dir_all(&folder)?;
        make(&folder).with_context(|| format!("install the {name} client"))?;
        fs::write(finished, "")?;
    }
    Ok(folder)
}

/// A digest of the files with these extensions.
fn digest(source: &Path, extensions: &[&str]) -> Result<String> {
    let mut files: Vec<PathBuf> = fs::read_dir(source)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| {
        let extension = file.extension().and_then(OsStr::to_str);
        extension.is_some_and(|extension| extensions.contains(&extension))
    });
    files.sort();
    ensure!(!files.is_empty(), "no sources in {}", source.display());
    let mut sum = Sha256::new();
    for file in files {
        sum.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        sum.update(fs::read(file)?);
    }
    let bytes = sum.finalize();
    Ok(bytes[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn finish(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("start {command:?}: install the tool"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not text", path.display()))
}
