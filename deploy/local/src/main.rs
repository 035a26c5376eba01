//! The command `local`. In: a subcommand. Out: its exit status. All that it does is in the library.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use local::tools::{Tool, Tools};
use local::with_servers::{self, WithServers};

/// The local stack: real servers, without Docker.
#[derive(Debug, Parser)]
#[command(name = "local", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a command beside a Postgres and a Kafka of its own.
    WithServers(WithServers),
    /// Fetches what is missing, and prints where each tool is.
    Tools {
        /// Which; all of them if none is named.
        names: Vec<Tool>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            local::progress::say(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let tools = Tools::from_env()?;
    match cli.command {
        Command::WithServers(options) => return with_servers::run(&tools, options).await,
        Command::Tools { names } => {
            for tool in if names.is_empty() { Tool::ALL.to_vec() } else { names } {
                println!("{tool:?}: {}", tools.find(tool).await?.display());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
