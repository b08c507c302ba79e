//! A connection whose bytes can be slowed down and which can end with a reset.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

/// What the answers of a connection ask of it.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Nanoseconds before every byte; 0 is no pause.
    pause: AtomicU64,
    reset: AtomicBool,
}

impl Line {
    /// Everything written from now on is slow.
    pub fn slow_down(&self, pause: Duration) {
        let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        self.pause.store(nanos, Ordering::Relaxed);
    }

    /// The connection is to end with a reset.
    pub fn ask_for_reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    pub fn is_to_be_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }

    fn pause(&self) -> Option<Duration> {
        match self.pause.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }
}

/// The stream of a connection, at the pace of its [`Line`].
pub(crate) struct Paced {
    stream: TlsStream<TcpStream>,
    line: std::sync::Arc<Line>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub fn new(stream: TlsStream<TcpStream>, line: std::sync::Arc<Line>) -> Self {
        Self { stream, line, sleep: None }
    }

    /// Ends the connection without the farewells of TLS and TCP.
    pub fn reset(self) {
        // Without it the connection merely ends; there is nothing better to do.
        let _ = self.stream.get_ref().0.set_zero_linger();
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buffer: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(pause) = this.line.pause() {
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
