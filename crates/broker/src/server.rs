//! Start, accept loop and stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::config::Config;
use super::core::{Core, Counters, Hub};
use super::session::{self, SessionContext};
use super::spool::Spool;
use super::{BrokerError, semp, writer};

/// After a failed accept (no file handles left, as a rule) others get time to close some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Runs the broker on a bound listener until `shutdown`, then closes all connections and writes
/// out the spool. When it returns, the data directory is free for the next broker.
///
/// # Errors
/// A configuration or spool that cannot be used, before the first connection is accepted; a disk
/// that fails later. Nothing that was not written has been acknowledged then.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), BrokerError> {
    let io = |action| move |source| BrokerError::Io { action, source };
    let listen = listener.local_addr().map_err(io("read its own address"))?;
    config.validate(listen)?;
    let semp = match config.semp_listen {
        Some(address) => Some(TcpListener::bind(address).await.map_err(io("listen for SEMP"))?),
        None => None,
    };
    let hub = Arc::new(Hub::new(open_core(&config)?));
    let failed = CancellationToken::new();
    let writer_stop = CancellationToken::new();
    let writer = {
        let (hub, stop, failed) = (Arc::clone(&hub), writer_stop.clone(), failed.clone());
        std::thread::Builder::new()
            .name("broker-spool".to_owned())
            .spawn(move || writer::run(&hub, &stop, &failed))
            .map_err(io("start its writer thread"))?
    };
    info!(%listen, data_dir = %config.data_dir.display(), "broker is up");
    let interval = config.stats_interval_seconds;
    let answers = semp::router(Arc::clone(&hub), config.users.clone());
    let context = Arc::new(SessionContext::new(Arc::clone(&hub), config));
    let mut sessions = JoinSet::new();
    tokio::select! {
        () = accept_loop(&listener, &context, &mut sessions) => {}
        () = log_traffic(&hub, interval) => {}
        () = serve_semp(semp, answers) => {}
        () = shutdown.cancelled() => {}
        () = failed.cancelled() => {}
    }
    // To the end, because each of them holds the spool, which the next broker wants to open.
    sessions.shutdown().await;
    writer_stop.cancel();
    hub.writer.notify_one();
    let ended = tokio::task::spawn_blocking(move || writer.join()).await;
    if !matches!(ended, Ok(Ok(()))) {
        warn!("writer thread ended abnormally");
    }
    let failure = hub.lock().failure.take();
    info!("broker is down");
    failure.map_or(Ok(()), |failure| Err(BrokerError::Spool(failure)))
}

/// Never returns: messages matter more than answers about them.
async fn serve_semp(listener: Option<TcpListener>, answers: axum::Router) {
    let Some(listener) = listener else { return std::future::pending().await };
    if let Err(error) = axum::serve(listener, answers).await {
        warn!(%error, "the management interface has ended: queues can't be asked about any more");
    }
    std::future::pending().await
}

fn open_core(config: &Config) -> Result<Core, BrokerError> {
    let opened = Spool::open(&config.data_dir, config.segment_size);
    let (mut spool, recovered) = opened.map_err(BrokerError::Spool)?;
    spool.ids_between = u64::from(config.ids_between);
    if let Some(torn) = &recovered.torn_tail {
        warn!(
            file = %torn.path.display(), position = torn.position, cut_bytes = torn.cut_bytes,
            "spool file ended in a half-written record; it was cut, nothing acknowledged is lost"
        );
    }
    Core::new(config, spool, recovered)
}

/// Never returns. Connections go on until `sessions` ends them.
async fn accept_loop(
    listener: &TcpListener,
    context: &Arc<SessionContext>,
    sessions: &mut JoinSet<()>,
) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let context = Arc::clone(context);
                    let session = async move { session::run(prepare(stream), peer, &context).await };
                    sessions.spawn(session);
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection; retrying");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}

fn prepare(stream: TcpStream) -> TcpStream {
    if let Err(error) = stream.set_nodelay(true) {
        warn!(%error, "cannot turn off delayed sending; acknowledgements will be slow");
    }
    stream
}

/// Never returns. Logs the counters when they have moved.
async fn log_traffic(hub: &Hub, seconds: u64) {
    if seconds == 0 {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(seconds));
    let mut last = Counters::default();
    loop {
        ticks.tick().await;
        let core = hub.lock();
        let now = core.counters;
        if now != last {
            let depth: usize = core.queue_depths().map(|(_, depth)| depth).sum();
            info!(
                clients = core.connection_count(),
                waiting = depth,
                spool_bytes = core.spool_bytes(),
                stored = now.stored,
                delivered = now.delivered,
                settled = now.settled,
                refused = now.refused,
                unmatched = now.unmatched,
                direct_discarded = now.direct_discarded,
                "broker traffic since start"
            );
        }
        last = now;
    }
}

#[cfg(test)]
mod tests;
