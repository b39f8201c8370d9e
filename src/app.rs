//! Builds every part once, starts them, drives upkeep, and stops them in order.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::gauge;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Api, ConfigTexts, Readiness, State};
use crate::block::{Dedicated, Version, WriteOptions};
use crate::config::{BlockVersion, Config, SyncMode};
use crate::cpu::Cpu;
use crate::ingest::Ingest;
use crate::query::Query;
use crate::receive::{self, BindError, Receive};
use crate::store::{self, OpenError, Store};
use crate::telemetry;

/// How often upkeep looks whether there is something to do.
const TICK: Duration = Duration::from_secs(1);
/// How often blocks past their time are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// Pause after a block could not be written.
const RETRY: Duration = Duration::from_secs(5);
/// Compressed bytes of a row group: 6 MiB keep a scan's memory bounded and a trace's lookup short, as it reads the
/// dictionaries of its row group.
const ROW_GROUP_BYTES: usize = 6 << 20;

/// Why the process did not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// A running server.
pub struct App {
    store: Arc<Store>,
    api: Arc<Api>,
    receivers: JoinSet<()>,
    servers: JoinSet<()>,
    upkeep: JoinSet<()>,
    stop_receiving: CancellationToken,
    stop_serving: CancellationToken,
    grace: Duration,
    /// Where it listens, by part: `otlp_grpc`, `otlp_http`, `query_http`, `query_grpc`.
    pub addresses: Vec<(&'static str, SocketAddr)>,
}

impl App {
    /// Starts everything. Spans are taken when this returns; queries are answered once the log has been replayed.
    ///
    /// # Errors
    /// When a port is taken or the data directory cannot be used.
    pub async fn start(config: Config) -> Result<App, StartError> {
        let budget = config.memory.budget();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let cpu = Cpu::new("query", threads);
        let mut addresses = Vec::new();
        let (http, grpc) = (config.query.http.listen, config.query.grpc.listen);
        let queries = bind(&[("query_http", http), ("query_grpc", grpc)], &mut addresses).await?;
        let (grpc, http) = (config.receive.otlp_grpc.listen, config.receive.otlp_http.listen);
        let listeners = bind(&[("otlp_grpc", grpc), ("otlp_http", http)], &mut addresses).await?;
        let api = Arc::new(query_api(&config, cpu.clone()));
        let stop_serving = CancellationToken::new();
        let mut servers = JoinSet::new();
        for listener in queries {
            servers.spawn(api::serve(listener, Arc::clone(&api), stop_serving.clone()));
        }
        let options = store_options(&config, budget.live, budget.storage);
        let opened = Cpu::new("open", 1);
        let (query_cpu, upkeep_cpu) = (cpu.clone(), Cpu::new("upkeep", 1));
        let store =
            Arc::new(opened.run(move || Store::open(options, query_cpu, upkeep_cpu)).await?);
        let ingest = Arc::new(Ingest::new(Arc::clone(&store), budget.ingest));
        for (part, bytes) in
            [("ingest", budget.ingest), ("heads", budget.live), ("cache", budget.storage)]
        {
            gauge!(telemetry::INGEST_MEMORY_LIMIT_BYTES, "part" => part).set(bytes as f64);
        }
        let receive = Arc::new(Receive::new(ingest, &config.receive, &config.tenancy));
        let stop_receiving = CancellationToken::new();
        let mut receivers = JoinSet::new();
        for listener in listeners {
            receivers.spawn(receive::serve(listener, Arc::clone(&receive), stop_receiving.clone()));
        }
        announce(&addresses, &config);
        let mut upkeep = JoinSet::new();
        upkeep.spawn(become_ready(Arc::clone(&store), Arc::clone(&api), config.query.clone()));
        upkeep.spawn(keep_up(Arc::clone(&store), config.clone()));
        let grace = config.shutdown.grace;
        Ok(App {
            store,
            api,
            receivers,
            servers,
            upkeep,
            stop_receiving,
            stop_serving,
            grace,
            addresses,
        })
    }

    /// Completes when queries are answered.
    pub async fn ready(&self) {
        self.store.ready().await;
    }

    /// Stops part by part within the grace period: not ready, receivers, live traces to blocks, queries. What could not be
    /// written stays in the log for the next start.
    pub async fn stop(mut self) {
        self.api.readiness.set(State::Stopping);
        gauge!(telemetry::APP_READY).set(0.0);
        self.stop_receiving.cancel();
        let late = |part: &str| tracing::warn!(part, "did not stop within the grace period");
        let store = Arc::clone(&self.store);
        let receivers = &mut self.receivers;
        let drained = tokio::time::timeout(self.grace, async {
            while receivers.join_next().await.is_some() {}
        });
        if drained.await.is_err() {
            late("receivers");
        }
        self.upkeep.shutdown().await;
        match tokio::time::timeout(self.grace, store.close()).await {
            Ok(Ok(())) => tracing::info!("all live traces are in blocks"),
            Ok(Err(error)) => {
                tracing::error!(
                    err = &error as &dyn std::error::Error,
                    "live traces stay in the log for the next start"
                );
            }
            Err(_) => late("store"),
        }
        self.stop_serving.cancel();
        let servers = &mut self.servers;
        let closed = tokio::time::timeout(self.grace, async {
            while servers.join_next().await.is_some() {}
        });
        if closed.await.is_err() {
            late("queries");
        }
        tracing::info!("stopped");
    }
}

fn query_api(config: &Config, cpu: Cpu) -> Api {
    Api {
        query: OnceLock::new(),
        readiness: Readiness::default(),
        limits: config.query.clone(),
        tenancy: config.tenancy.clone(),
        cpu,
        config_texts: ConfigTexts {
            effective: config.to_toml(),
            changed: config.to_toml_changes(),
            defaults: Config::default().to_toml(),
        },
    }
}

async fn bind(
    parts: &[(&'static str, Option<SocketAddr>)],
    addresses: &mut Vec<(&'static str, SocketAddr)>,
) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::new();
    for (part, address) in parts {
        let Some(address) = *address else { continue };
        let listener = receive::bind(address).await?;
        addresses.push((part, listener.local_addr().unwrap_or(address)));
        listeners.push(listener);
    }
    Ok(listeners)
}

fn announce(addresses: &[(&'static str, SocketAddr)], config: &Config) {
    for (part, address) in addresses {
        tracing::info!(part, addr = %address, "listening");
    }
    let at =
        |wanted: &str| addresses.iter().find(|(part, _)| *part == wanted).map(|(_, at)| at.port());
    if let (Some(spans), Some(query)) = (at("otlp_http"), at("query_http")) {
        tracing::info!("send spans with OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:{spans}");
        tracing::info!("add http://localhost:{query} to Grafana as a Tempo data source");
    }
    let sync = match config.wal.sync {
        SyncMode::Always => "always: an acknowledged span survives a power loss",
        SyncMode::Interval => {
            "interval: an acknowledged span survives a killed process, not a power loss"
        }
        SyncMode::Off => "off: an acknowledged span survives a killed process, not a power loss",
    };
    tracing::info!(sync, path = %config.storage.path.display(), "keeping spans");
}

fn store_options(config: &Config, live_bytes: u64, storage_bytes: u64) -> store::Options {
    let version = match config.block.version {
        BlockVersion::VParquet4 => Version::V4,
        BlockVersion::VParquet5 => Version::V5,
    };
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    store::Options {
        path: config.storage.path.clone(),
        sync: if config.wal.sync == SyncMode::Always {
            store::Sync::Always
        } else {
            store::Sync::Later
        },
        min_free_bytes: config.wal.min_free.bytes(),
        live_bytes: bytes(live_bytes),
        cache_bytes: bytes(storage_bytes / 4),
        trace_idle: config.live.trace_idle,
        max_trace_age: config.live.max_trace_age,
        max_block_duration: config.block.max_duration,
        max_block_bytes: config.block.max_bytes.bytes(),
        write: WriteOptions {
            version,
            dedicated: Dedicated::defaults(),
            row_group_bytes: ROW_GROUP_BYTES,
        },
    }
}

async fn become_ready(store: Arc<Store>, api: Arc<Api>, limits: crate::config::Query) {
    let ready = gauge!(telemetry::APP_READY);
    ready.set(0.0);
    store.ready().await;
    // Nobody else sets it.
    drop(api.query.set(Query::new(Arc::clone(&store), limits)));
    api.readiness.set(State::Ready);
    ready.set(1.0);
    tracing::info!("ready");
}

/// Flushes what is due, syncs the log where appends do not, sweeps, and keeps the gauges.
async fn keep_up(store: Arc<Store>, config: Config) {
    let mut tick = tokio::time::interval(TICK);
    let mut sync = tokio::time::interval(config.wal.sync_interval.max(Duration::from_millis(1)));
    let mut sweep = tokio::time::interval(SWEEP);
    store.ready().await;
    loop {
        // Cancel-safe: timers and a notification, none of which loses anything.
        tokio::select! {
            () = store.flush_wanted() => flush(&store).await,
            _ = tick.tick() => {
                store.look_around();
                telemetry::upkeep();
                if store.flush_due() {
                    flush(&store).await;
                }
            }
            _ = sync.tick(), if config.wal.sync == SyncMode::Interval => store.sync().await,
            _ = sweep.tick(), if !config.retention.period.is_zero() => {
                store.sweep(config.retention.period).await;
            }
        }
    }
}

async fn flush(store: &Store) {
    if let Err(error) = store.flush(store.usual_cut()).await {
        tracing::error!(
            err = &error as &dyn std::error::Error,
            "a block cannot be written; its traces stay in memory and in the log, and it is tried again"
        );
        tokio::time::sleep(RETRY).await;
    }
}
