//! Listening, and ending: whoever connects is served over HTTP/1.1 until the daemon is to end; what is under way is then
//! answered, and whoever does not read their answer is not waited for.

use std::{net::SocketAddr, pin::pin, sync::Arc, thread::JoinHandle, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use lifeboat_io::Stop;
use lifeboat_model::{Failure, FailureKind};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tower_service::Service;

use crate::scheduler::Scheduler;
use crate::{Daemon, router};

/// How often the daemon looks whether it should end.
const LOOK_UP: Duration = Duration::from_millis(50);

/// How long answers that are under way are waited for when it ends.
const GRACE: Duration = Duration::from_secs(5);

/// How long somebody may take to say what they want.
const HEAD_MAX: Duration = Duration::from_secs(30);

/// Connections at the same time; more wait to be accepted.
const CONNECTIONS_MAX: u32 = 1_024;

/// How often is looked whether the app is closed on purpose.
const CLOSED_LOOK_UP: Duration = Duration::from_secs(1);

/// Listens until somebody wants it to end; requests that are under way are answered first, workers end between two batches,
/// and operations at their next safe point.
///
/// # Errors
/// When the address cannot be listened on. `ready` is told the address once it is.
pub fn serve(daemon: Arc<Daemon>, listen: SocketAddr, ready: impl FnOnce(SocketAddr)) -> Result<(), Failure> {
    let refused = |error: std::io::Error| {
        let failure =
            Failure::new(FailureKind::Refused, format!("cannot listen on {listen}")).because(error.to_string());
        failure.hint("end what listens there, or say --listen 127.0.0.1:PORT")
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::from_error(FailureKind::Outside, &error))?;
    let listener = runtime.block_on(TcpListener::bind(listen)).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    if let Some(gateway) = &daemon.gateway {
        gateway.look(&daemon.engine);
    }
    let threads = begin(&daemon);
    ready(address);
    runtime.block_on(async {
        if daemon.gateway.is_some() {
            tokio::spawn(look_whether_closed(daemon.clone()));
        }
        accept(listener, router(daemon.clone()), &daemon.stop).await;
    });
    daemon.stop.at_safe_point();
    daemon.workers.iter().for_each(|worker| worker.wake());
    daemon.scheduler.wake();
    daemon.running.end();
    for thread in threads {
        let _ = thread.join(); // a worker that broke has told so; the daemon ends all the same
    }
    // What still waits for somebody who does not read.
    runtime.shutdown_timeout(GRACE);
    Ok(())
}

/// Everybody begins who works by themselves.
fn begin(daemon: &Daemon) -> Vec<JoinHandle<()>> {
    let workers = daemon.workers.iter();
    let mut threads: Vec<_> = workers.map(|worker| worker.start(daemon.engine.clone(), &daemon.stop)).collect();
    if Scheduler::has_work(&daemon.engine) {
        threads.push(daemon.scheduler.start(daemon.engine.clone(), &daemon.stop, daemon.log.clone()));
    }
    threads
}

async fn look_whether_closed(daemon: Arc<Daemon>) {
    while !daemon.stop.wanted() {
        tokio::time::sleep(CLOSED_LOOK_UP).await;
        let look = daemon.clone();
        let looked = tokio::task::spawn_blocking(move || {
            look.gateway.iter().for_each(|gateway| gateway.look(&look.engine));
        });
        let _ = looked.await; // one that broke leaves what was known
    }
}

async fn wanted(stop: &Stop) {
    while !stop.wanted() {
        tokio::time::sleep(LOOK_UP).await;
    }
}

async fn accept(listener: TcpListener, app: Router, stop: &Stop) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
    // One looks at the flag, and tells all connections.
    let (tell, told) = watch::channel(());
    let mut ends = pin!(wanted(stop));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut ends => break,
            (place, accepted) = next => match (place, accepted) {
                (Ok(place), Ok((stream, peer))) => {
                    let (app, told) = (app.clone(), told.clone());
                    tokio::spawn(async move {
                        talk(stream, peer, app, told).await;
                        drop(place);
                    });
                }
                // Too many open files, or somebody who went away already: the others are still served.
                _ => tokio::time::sleep(LOOK_UP).await,
            },
        }
    }
    drop(listener);
    drop(tell);
    let _ = tokio::time::timeout(GRACE, places.acquire_many(CONNECTIONS_MAX)).await; // not longer than that
}

async fn talk(stream: TcpStream, peer: SocketAddr, app: Router, mut ends: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true); // slower without, and that is all
    let answer = service_fn(move |request: Request<Incoming>| {
        let mut app = app.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        async move { app.call(request).await }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), answer).with_upgrades());
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ends.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await; // whoever hangs up has had enough
}
