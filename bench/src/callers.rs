//! Where calls are made: on a thread of their own, or on those of the bench.

use std::{convert::Infallible, sync::Arc, thread};

use anyhow::Result;
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// Who calls. What they connect to, and all that they do, is done where they are.
#[derive(Clone)]
pub(crate) struct Callers {
    runtime: Handle,
    /// Dropped with the last of them, which ends their thread.
    _here: Option<Arc<oneshot::Sender<Infallible>>>,
}

impl Callers {
    /// Many at once, on a thread that has nothing else to do: to wake another for each call and for each answer would take more
    /// of the processors that the services are on than the calls themselves.
    ///
    /// # Errors
    ///
    /// There are no more threads.
    pub(crate) fn on_one_thread() -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (here, gone) = oneshot::channel::<Infallible>();
        thread::Builder::new().name("callers".to_owned()).spawn(move || {
            // Nothing is ever sent: it is over when nobody could any more.
            let _ = runtime.block_on(gone);
        })?;
        Ok(Self { runtime: handle, _here: Some(Arc::new(here)) })
    }

    /// One at a time, on any of the bench's threads, as a program is that calls now and then.
    pub(crate) fn among_others() -> Self {
        Self { runtime: Handle::current(), _here: None }
    }

    /// Does something where they are.
    ///
    /// # Errors
    ///
    /// It panicked.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T> {
        Ok(self.runtime.spawn(work).await?)
    }
}
