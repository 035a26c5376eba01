//! `local run`: the whole system on this machine, as `make run` has it. In: a checkout and a port offset. Out: endpoints and a line
//! that begins with `ready`, on standard output; what happens later, on standard error. It ends with everything stopped.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::checkout::Checkout;
use crate::progress::{answer, say};
use crate::service::SERVICES;
use crate::stack::Stack;
use crate::supervise::supervise;
use crate::tools::Tools;

/// What `local run` is told.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// Moves every port by so many.
    #[arg(long, env = "TICKETING_PORT_OFFSET", default_value_t = 0)]
    pub port_offset: u16,
    /// Runs the services' binaries in this folder, instead of building them.
    #[arg(long)]
    pub binaries: Option<PathBuf>,
}

/// Runs the stack until Ctrl-C, SIGTERM or SIGHUP, and then stops it. A second signal stops it at once.
///
/// # Errors
/// When it can't be built, started or stopped cleanly.
pub async fn run(tools: &Tools, options: Run) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let checkout = Checkout::here()?;
    let _lock = checkout.lock(options.port_offset)?;

    let stack = tokio::select! {
        stack = create(tools, &options, &checkout) => stack?,
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let begun = Instant::now();
    let started = tokio::select! {
        started = stack.start() => started.map(|()| true),
        () = signals.next() => Ok(false),
    };
    if let Ok(true) = started {
        announce(&stack, begun);
        tokio::select! {
            () = supervise(&stack) => {}
            () = signals.next() => {}
        }
    }
    say("stopping; once more to stop at once");
    tokio::select! {
        stopped = stack.stop() => started.and(stopped)?,
        // Whatever still runs is killed when the stack is dropped.
        () = signals.next() => return Ok(ExitCode::from(130)),
    }
    say("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Ports are taken first of all: nobody should wait for a build to hear that one is in use, or lose one meanwhile.
async fn create(tools: &Tools, options: &Run, checkout: &Checkout) -> Result<Stack> {
    let mut builder = Stack::builder().fixed_ports(options.port_offset).inherit_env();
    builder = builder.state(checkout.state(options.port_offset), checkout.keys());
    for spec in &SERVICES {
        builder = builder.service(spec.name)?;
    }
    if let Some(program) = tools.built_jaeger() {
        builder = builder.jaeger(program);
    }
    if let Some(program) = tools.fetched_prometheus() {
        builder = builder.prometheus(program, 1);
    }
    builder = builder.gateway();
    builder.reserve_ports().await?;
    match &options.binaries {
        Some(dir) => builder = builder.binaries(dir),
        None => build(checkout).await?,
    }
    builder.create(tools).await
}

async fn build(checkout: &Checkout) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release"]).current_dir(checkout.root()).kill_on_drop(true);
    cargo.args(SERVICES.iter().map(|spec| spec.name).chain(["sandbox", "gateway"]).flat_map(|name| ["-p", name]));
    let status = cargo.status().await.context("running cargo")?;
    ensure!(status.success(), "the services can't be built ({status})");
    Ok(())
}

fn announce(stack: &Stack, begun: Instant) {
    if let Some(postgres) = stack.postgres() {
        answer(format_args!("Postgres    {}", postgres.url("postgres")));
    }
    if let Some(kafka) = stack.kafka() {
        answer(format_args!("Kafka       {}", kafka.brokers()));
    }
    if let Some(sandbox) = stack.sandbox() {
        answer(format_args!("sandbox     {}/sandbox/ledger", sandbox.url()));
    }
    match stack.jaeger() {
        Some(jaeger) => {
            let (api, otlp, agent) = (jaeger.url(), jaeger.otlp(), jaeger.agent());
            answer(format_args!("Jaeger      {api}/api/traces?service=orders, OTLP {otlp}, agent {agent}/udp"));
        }
        None => answer("Jaeger      not built: `make jaeger` builds it, once, and the next `make run` starts it"),
    }
    match stack.prometheus() {
        Some(prometheus) => answer(format_args!("Prometheus  {}/api/v1/alerts", prometheus.url())),
        None => answer("Prometheus  not there: `make prometheus` fetches it, once, and the next `make run` starts it"),
    }
    for service in stack.services() {
        answer(format_args!("{:<11} gRPC {}, http://{}/metrics", service.name(), service.grpc(), service.ops()));
    }
    if let Some(gateway) = stack.gateway() {
        answer(format_args!("gateway     {} (gRPC, gRPC-Web, JSON), http://{}/", gateway.url(), gateway.admin()));
    }
    answer(format_args!("logs        {}", stack.dir().join("logs").display()));
    answer(format_args!("a token     make -s token USER=alice"));
    answer(format_args!("ready after {:.1} s; Ctrl-C stops it", begun.elapsed().as_secs_f32()));
}

/// What asks us to end. Each kind is caught from the beginning, also where a shell has started us with it ignored.
struct Signals([tokio::signal::unix::Signal; 3]);

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
