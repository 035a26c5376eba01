//! The program `gateway`: writes Envoy's configuration and becomes Envoy; or tells what it would write, or what the contract
//! is in OpenAPI.

use std::{
    error::Error,
    fs,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use gateway::{Config, NAME, bootstrap::bootstrap, openapi::openapi};
use shared::config::{self, Settings};

const ABOUT: &str = "The edge: gRPC, gRPC-Web and JSON on one port, by Envoy.";
const BOOTSTRAP: &str = "bootstrap";
const OPENAPI: &str = "openapi";
const COMMANDS: &[config::Command] = &[
    config::Command { name: BOOTSTRAP, about: "print Envoy's configuration, and end" },
    config::Command { name: OPENAPI, about: "print the contract as OpenAPI, and end; this takes no settings" },
];

fn main() -> ExitCode {
    let mut settings = Settings::from_process(NAME, ABOUT, COMMANDS);
    let command = settings.command();
    if command == Some(OPENAPI) {
        return end(openapi().map_err(Into::into).and_then(|document| print(&document)));
    }
    let config = Config::read(&mut settings);
    let config = match settings.finish(config) {
        Ok(config) => config,
        Err(stop) => {
            stop.print();
            return ExitCode::from(stop.exit_code());
        }
    };
    end(match command {
        Some(BOOTSTRAP) => bootstrap(&config).map_err(Into::into).and_then(|json| print(&format!("{json:#}\n"))),
        _ => serve(&config),
    })
}

fn end(outcome: Result<(), Box<dyn Error>>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if this can't be written.
            let _ = writeln!(io::stderr(), "{NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> Result<(), Box<dyn Error>> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}

/// Returns only if there is no becoming Envoy.
fn serve(config: &Config) -> Result<(), Box<dyn Error>> {
    fs::write(&config.bootstrap, bootstrap(config)?.to_string())
        .map_err(|error| format!("{} can't be written: {error}", config.bootstrap.display()))?;
    // In this process's place: whoever started it signals Envoy, and sees how it ends.
    let level = config.log_level();
    let error = Command::new(&config.envoy)
        .arg("--config-path")
        .arg(&config.bootstrap)
        .args(["--log-level", level])
        .args(quieter(level))
        .args(["--concurrency", &config.threads.to_string()])
        // Several may run on a machine.
        .arg("--disable-hot-restart")
        .exec();
    Err(format!("{} can't be run: {error}", config.envoy.display()).into())
}

/// A filter that looks for fields in bodies warns of every body that lacks one: for whoever looks closer, and nobody else.
fn quieter(level: &str) -> &'static [&'static str] {
    if matches!(level, "info" | "warning") { &["--component-log-level", "filter:error"] } else { &[] }
}
