//! Installs the real peers that tests and benchmarks compare us with: etcd, etcdctl and etcdutl.
//!
//! They are installed in `$XDG_CACHE_HOME/synod/peers/<version>/` (`~/.cache` if that is unset),
//! built from the public Go modules, or from Debian's packages if Go is missing. The first caller
//! installs them under a file lock; later callers find the finished directory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The newest stable etcd release. `SYNOD_ETCD_VERSION` selects another one (`latest` asks the Go
/// module proxy). The version is fixed so that an etcd release can't change our test results.
pub const ETCD_VERSION: &str = "v3.7.3";

const TOOLS: [&str; 3] = ["etcd", "etcdctl", "etcdutl"];

/// The installed peers.
#[derive(Clone, Debug)]
pub struct Peers {
    /// The etcd server.
    pub etcd: PathBuf,
    /// The command-line client.
    pub etcdctl: PathBuf,
    /// The offline tool (`snapshot status`). Missing in Debian's packages before 3.5.
    pub etcdutl: Option<PathBuf>,
    /// The version printed by `etcd --version`, for example `3.7.3`.
    pub version: String,
    /// How they were installed, for the test log.
    pub origin: String,
}

impl Peers {
    /// One line that says what is installed and from where.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("etcd {} and its tools ({})", self.version, self.origin)
    }
}

/// Our directory in the user's cache: `$XDG_CACHE_HOME/synod`, or else `~/.cache/synod`.
///
/// # Errors
/// Neither variable is set.
pub fn cache_folder() -> Result<PathBuf> {
    let of = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    of("XDG_CACHE_HOME")
        .or_else(|| of("HOME").map(|home| home.join(".cache")))
        .map(|base| base.join("synod"))
        .context("neither XDG_CACHE_HOME nor HOME is set: set one, since the peers are installed below it")
}

/// Installs the peers unless they are already installed, and returns their paths.
///
/// # Errors
/// The cache directory isn't writable, or neither Go nor apt could provide the peers.
pub fn install() -> Result<Peers> {
    let version = wanted_version()?;
    let folder = cache_folder()?.join("peers").join(&version);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let lock = File::create(folder.join("lock")).context("create the installation's lock file")?;
    lock.lock()
        .context("wait for another installation of the peers")?;
    let origin_file = folder.join("origin");
    if !origin_file.exists() {
        // The origin is written last: a directory without it is an interrupted installation.
        let origin = match go() {
            Some(go) => build_from_modules(&go, &version, &folder)?,
            None => install_from_debian(&folder)?,
        };
        fs::write(&origin_file, origin)?;
    }
    let etcdutl = folder.join("etcdutl");
    Ok(Peers {
        etcd: folder.join("etcd"),
        etcdctl: folder.join("etcdctl"),
        etcdutl: etcdutl.exists().then_some(etcdutl),
        version: version_of(&folder.join("etcd"))?,
        origin: fs::read_to_string(&origin_file)?,
    })
}

fn wanted_version() -> Result<String> {
    let Some(asked) = std::env::var_os("SYNOD_ETCD_VERSION") else {
        return Ok(ETCD_VERSION.to_owned());
    };
    let asked = asked.to_string_lossy().into_owned();
    if asked != "latest" {
        return Ok(asked);
    }
    let go = go().context("SYNOD_ETCD_VERSION=latest needs Go: name a version instead")?;
    let listed = output_of(
        Command::new(go)
            .args([
                "list",
                "-m",
                "-f",
                "{{.Version}}",
                "go.etcd.io/etcd/server/v3@latest",
            ])
            .current_dir(std::env::temp_dir()),
    )?;
    Ok(listed.trim().to_owned())
}

/// `go install` refuses modules with replace directives, so this builds a module that requires them
/// and calls their entry points.
fn build_from_modules(go: &Path, version: &str, folder: &Path) -> Result<String> {
    let source = folder.join("src");
    fs::create_dir_all(source.join("etcd"))?;
    fs::create_dir_all(source.join("etcdctl"))?;
    let go_version = output_of(Command::new(go).args(["env", "GOVERSION"]))?;
    let go_version = go_version.trim().to_owned();
    let language = go_version
        .trim_start_matches("go")
        .split(' ')
        .next()
        .unwrap_or("1.24");
    fs::write(
        source.join("go.mod"),
        format!(
            "module synod.peers\n\ngo {language}\n\nrequire (\n\
             \tgo.etcd.io/etcd/server/v3 {version}\n\tgo.etcd.io/etcd/etcdctl/v3 {version}\n\
             \tgo.etcd.io/etcd/etcdutl/v3 {version}\n)\n"
        ),
    )?;
    fs::write(
        source.join("etcd/main.go"),
        "package main\n\nimport (\n\t\"os\"\n\n\t\"go.etcd.io/etcd/server/v3/etcdmain\"\n)\n\n\
         func main() { etcdmain.Main(os.Args) }\n",
    )?;
    fs::write(
        source.join("etcdctl/main.go"),
        "package main\n\nimport \"go.etcd.io/etcd/etcdctl/v3/ctlv3\"\n\n\
         func main() { ctlv3.MustStart() }\n",
    )?;
    let packages = ["./etcd", "./etcdctl", "go.etcd.io/etcd/etcdutl/v3"];
    for (tool, package) in TOOLS.iter().zip(packages) {
        output_of(
            Command::new(go)
                .args(["build", "-mod=mod", "-trimpath", "-buildvcs=false", "-o"])
                .arg(folder.join(tool))
                .arg(package)
                .current_dir(&source)
                .env("GOWORK", "off"),
        )
        .with_context(|| format!("build {tool} {version} from its Go module"))?;
    }
    Ok(format!("Go modules {version}, built with {go_version}"))
}

fn install_from_debian(folder: &Path) -> Result<String> {
    if ["etcd", "etcdctl"]
        .iter()
        .any(|tool| find_program(tool).is_none())
    {
        let apt = find_program("apt-get").context(
            "neither Go nor apt-get is here: install Go 1.24 or newer, or etcd and etcdctl",
        )?;
        output_of(Command::new(&apt).arg("update"))?;
        output_of(
            Command::new(&apt)
                .args([
                    "install",
                    "-y",
                    "--no-install-recommends",
                    "etcd-server",
                    "etcd-client",
                ])
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )?;
    }
    for tool in TOOLS {
        let Some(program) = find_program(tool) else {
            continue;
        };
        let link = folder.join(tool);
        drop(fs::remove_file(&link));
        std::os::unix::fs::symlink(program, link)?;
    }
    ensure!(
        folder.join("etcd").exists(),
        "apt-get installed etcd-server, but no etcd is on PATH"
    );
    Ok("the system's etcd-server and etcd-client packages".to_owned())
}

fn version_of(etcd: &Path) -> Result<String> {
    let text = output_of(Command::new(etcd).arg("--version"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("etcd Version: "))
        .map(|version| version.trim().to_owned())
        .with_context(|| format!("{} --version printed no version: {text}", etcd.display()))
}

fn go() -> Option<PathBuf> {
    find_program("go")
}

pub(crate) fn find_program(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name.as_ref()))
        .find(|candidate| candidate.is_file())
}

pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
