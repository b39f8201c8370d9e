//! The program: arguments, config, runtime, run, exit code.

use std::io::Write;
use std::process::ExitCode;
use std::time::SystemTime;

use metronome::app::App;
use metronome::cli::{self, Cli, Command, Exit};
use metronome::config::{self, Config, LogFormat};
use metronome::{load, telemetry};
use telemetry::Chain;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(cli) => run(cli).into(),
        Err(exit) => exit.into(),
    }
}

fn run(cli: Cli) -> Exit {
    if cli.health {
        return match cli::check_health(&cli.health_url) {
            Ok(()) => Exit::Clean,
            Err(error) => fail(&error, Exit::Failed),
        };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, Exit::Failed),
    };
    if let Some(Command::Load(options)) = cli.command {
        return runtime.block_on(send(options));
    }
    let config = match config::load(cli.config.as_deref(), &cli.set) {
        Ok(config) => config,
        Err(error) => return fail(&error, Exit::Usage),
    };
    if cli.verify {
        return Exit::Clean;
    }
    match config.telemetry.log_format {
        LogFormat::Logfmt => telemetry::start_logfmt_log(config.telemetry.log_level.filter()),
        LogFormat::Json => telemetry::start_json_log(config.telemetry.log_level.filter()),
    }
    let sets: Vec<&str> =
        config.telemetry.compat_names.iter().map(|names| names.as_str()).collect();
    if let Err(error) = telemetry::install(&sets) {
        return fail(&error, Exit::Failed);
    }
    runtime.block_on(serve(config))
}

fn fail(error: &(dyn std::error::Error + 'static), exit: Exit) -> Exit {
    // With standard error closed there is nobody to tell.
    drop(writeln!(std::io::stderr(), "metronome: {}", Chain(error)));
    exit
}

#[expect(clippy::disallowed_methods, reason = "the load's spans begin now")]
async fn send(options: load::Options) -> Exit {
    match load::run(options, SystemTime::now(), &mut std::io::stdout()).await {
        Ok(report) if report.is_good() => Exit::Clean,
        Ok(_) => Exit::Failed,
        Err(error) => fail(&error, Exit::Failed),
    }
}

/// Serves until a signal: the first one stops in order, the second at once. What was acknowledged is in the log.
async fn serve(config: Config) -> Exit {
    let signals = signal(SignalKind::terminate())
        .and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    let (mut term, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => return fail(&error, Exit::Failed),
    };
    let app = match App::start(config).await {
        Ok(app) => app,
        Err(error) => return fail(&error, Exit::Failed),
    };
    next(&mut term, &mut interrupt).await;
    tracing::info!("stopping");
    // Cancel-safe: a stop that is cut short leaves the log as it is.
    tokio::select! {
        () = app.stop() => Exit::Clean,
        () = next(&mut term, &mut interrupt) => Exit::Failed,
    }
}

async fn next(term: &mut Signal, interrupt: &mut Signal) {
    // Cancel-safe: a signal that is not taken here is taken by the next call.
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}
