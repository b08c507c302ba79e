//! A connection that can be slowed down, byte by byte, and that can end with a reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

/// How a connection goes on; the answers that are sent over it change that.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// Nanoseconds before every byte; 0 is no pause.
    pause: AtomicU64,
    reset: AtomicBool,
}

impl Pacing {
    /// From now on every byte is written after this pause.
    pub fn slow_down(&self, pause: Duration) {
        let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        self.pause.store(nanos, Ordering::Relaxed);
    }

    /// The connection ends with a reset instead of an answer.
    pub fn request_reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    pub fn reset_requested(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }

    fn pause(&self) -> Option<Duration> {
        match self.pause.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }
}

/// The stream of a connection, written as its [`Pacing`] says.
pub(super) struct PacedStream {
    stream: TlsStream<TcpStream>,
    pacing: Arc<Pacing>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl PacedStream {
    pub fn new(stream: TlsStream<TcpStream>, pacing: Arc<Pacing>) -> Self {
        Self { stream, pacing, sleep: None }
    }

    /// Ends the connection with a TCP reset, without a close of TLS.
    pub fn reset(self) {
        // Where the option cannot be set the connection ends without a reset.
        let _ = self.stream.get_ref().0.set_zero_linger();
    }
}

impl AsyncRead for PacedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PacedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buffer: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(pause) = this.pacing.pause() {
            let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            ready!(sleep.as_mut().poll(cx));
            this.sleep = None;
            buffer = buffer.get(..1).unwrap_or_default();
        }
        Pin::new(&mut this.stream).poll_write(cx, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
