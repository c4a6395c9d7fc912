//! The status of the last answer, which `object_store` keeps to itself in most of its errors.

use std::{cell::Cell, future::Future};

use object_store::{
    ClientOptions,
    client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector},
};

tokio::task_local! {
    static STATUS: Cell<Option<u16>>;
}

/// The status of the last answer that the running piece of work got.
pub(super) struct LastStatus;

impl LastStatus {
    /// Runs a piece of work that can ask for its last status.
    pub(super) fn watch<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
        STATUS.scope(Cell::new(None), work)
    }

    /// The status; none when there was no answer to the last request.
    pub(super) fn get() -> Option<u16> {
        STATUS.try_with(Cell::get).ok().flatten()
    }
}

/// Connects as usual, and notes the statuses.
#[derive(Debug)]
pub(super) struct Observed;

impl HttpConnector for Observed {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(ObservedService { inner: ReqwestConnector::default().connect(options)? }))
    }
}

#[derive(Debug)]
struct ObservedService {
    inner: HttpClient,
}

#[async_trait::async_trait]
impl HttpService for ObservedService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let _ = STATUS.try_with(|status| status.set(None)); // outside of `watch` nobody asks
        let answer = self.inner.execute(request).await;
        let _ = STATUS.try_with(|status| status.set(answer.as_ref().ok().map(|answer| answer.status().as_u16())));
        answer
    }
}
