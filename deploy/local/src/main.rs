//! The command `local`. In: a subcommand. Out: its exit status. All that it does is in the library.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use local::checkout::Checkout;
use local::keys::Signer;
use local::run::{self, Run};
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
    /// Runs the whole system on this machine until Ctrl-C.
    Run(Run),
    /// Prints a token that the running system accepts, valid for a day.
    Token {
        /// Who calls: the token's `sub`.
        #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
        user: String,
        /// What else the user may do: `operator`. Several are separated by commas.
        #[arg(long = "role", value_delimiter = ',', value_parser = ["operator"])]
        roles: Vec<String>,
    },
    /// Removes all state of the system: databases, topics, keys, logs.
    Clean,
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
    match dispatch(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            local::progress::say(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Run(options) => return run::run(&Tools::from_env()?, options).await,
        Command::Token { user, roles } => {
            let roles: Vec<_> = roles.iter().map(String::as_str).collect();
            local::progress::answer(Signer::load_or_create(&Checkout::here()?.keys())?.token(&user, &roles)?);
        }
        Command::Clean => Checkout::here()?.clean()?,
        Command::WithServers(options) => return with_servers::run(&Tools::from_env()?, options).await,
        Command::Tools { names } => {
            let tools = Tools::from_env()?;
            for tool in if names.is_empty() { Tool::ALL.to_vec() } else { names } {
                local::progress::answer(format_args!("{tool:?}: {}", tools.find(tool).await?.display()));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
