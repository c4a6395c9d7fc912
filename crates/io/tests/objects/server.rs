//! An S3 server on loopback, over a temporary folder, as long as it is held.

use std::{net::SocketAddr, path::PathBuf};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use lifeboat_io::objects::s3::{S3, S3Settings};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tokio::{net::TcpListener, runtime::Runtime};

pub const BUCKET: &str = "backups";
pub const KEY_ID: &str = "AKIATEST";
pub const SECRET: &str = "not-much-of-a-secret";

pub struct Server {
    pub address: SocketAddr,
    folder: tempfile::TempDir,
    _runtime: Runtime,
}

impl Server {
    pub fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        let service = builder.build();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    // A client that goes away early is its own business.
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Server { address, folder, _runtime: runtime }
    }

    pub fn settings(&self, prefix: &str) -> S3Settings {
        settings(self.address, prefix)
    }

    pub fn open(&self, prefix: &str) -> S3 {
        S3::new(&self.settings(prefix)).unwrap()
    }

    pub fn file(&self, key: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(key)
    }
}

pub fn settings(address: SocketAddr, prefix: &str) -> S3Settings {
    S3Settings {
        bucket: BUCKET.into(),
        prefix: prefix.into(),
        endpoint: Some(format!("http://{address}")),
        region: "us-east-1".into(),
        access_key_id: KEY_ID.into(),
        secret_access_key: SECRET.to_owned().into(),
        session_token: None,
        allow_http: true,
        path_style: true,
    }
}
