//! Installs the real peers that tests and benchmarks compare us with: etcd, etcdctl and etcdutl.
//!
//! They land in `$XDG_CACHE_HOME/synod/peers/<version>/` (`~/.cache` when that is unset), built
//! from the public Go modules, or from Debian's packages where Go is absent. The first caller
//! installs under a file lock; later ones find the finished folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The newest stable etcd release; `SYNOD_ETCD_VERSION` names another one (`latest` asks the Go
/// module proxy). A fixed version keeps a release of theirs from changing the verdict on ours.
pub const ETCD_VERSION: &str = "v3.7.3";

const TOOLS: [&str; 3] = ["etcd", "etcdctl", "etcdutl"];

/// Where the peers are, and what they are.
#[derive(Clone, Debug)]
pub struct Peers {
    /// The etcd server.
    pub etcd: PathBuf,
    /// The client that operators use.
    pub etcdctl: PathBuf,
    /// The offline tool (`snapshot status`); absent in a Debian installation before 3.5.
    pub etcdutl: Option<PathBuf>,
    /// The version that `etcd --version` prints, for instance `3.7.3`.
    pub version: String,
    /// How they came to be there, for the reader of a test log.
    pub origin: String,
}

impl Peers {
    /// One line that says what is installed and where from.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("etcd {} and its tools ({})", self.version, self.origin)
    }
}

/// Our folder below the user's cache folder: `$XDG_CACHE_HOME/synod`, else `~/.cache/synod`.
fn cache_folder() -> Result<PathBuf> {
    let of = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    of("XDG_CACHE_HOME")
        .or_else(|| of("HOME").map(|home| home.join(".cache")))
        .map(|base| base.join("synod"))
        .context("neither XDG_CACHE_HOME nor HOME is set: set one, the peers are kept below it")
}

/// Installs the peers unless they are there already, and says where they are.
///
/// # Errors
/// The cache folder isn't writable, or neither Go nor apt could provide the peers.
pub fn install() -> Result<Peers> {
    let version = wanted_version()?;
    let folder = cache_folder()?.join("peers").join(&version);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let lock = File::create(folder.join("lock")).context("create the installation's lock file")?;
    lock.lock()
        .context("wait for another installation of the peers")?;
    let origin_file = folder.join("origin");
    if !origin_file.exists() {
        // The origin is written last: a folder without it is an interrupted installation.
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

/// `go install` refuses modules with replace directives, so a module of our own requires them and
/// calls their entry points.
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

fn find_program(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name.as_ref()))
        .find(|candidate| candidate.is_file())
}

fn output_of(command: &mut Command) -> Result<String> {
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
