//! The bodies of answers: whole ones, and those of faults.

use std::io;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::faults::Filler;

const CHUNK: usize = 64 * 1024;

#[derive(Debug)]
pub(super) enum AnswerBody {
    Whole(Option<Bytes>),
    /// The connection ends after a part of the announced length.
    Truncated {
        sent: Option<Bytes>,
        announced: u64,
        flushed: bool,
    },
    /// One byte after each pause.
    Slow {
        rest: Bytes,
        pause: Duration,
        sleep: Option<Pin<Box<Sleep>>>,
    },
    /// This number of bytes, in copies of a chunk after the first one.
    Fill {
        left: u64,
        next: Bytes,
        chunk: Bytes,
    },
    /// Copies of a chunk without an end.
    Endless {
        chunk: Bytes,
    },
}

impl AnswerBody {
    pub fn truncated(body: Bytes) -> Self {
        let announced = body.len() as u64;
        Self::Truncated { sent: Some(body.slice(..body.len() / 2)), announced, flushed: false }
    }

    pub fn slow(rest: Bytes, bytes_per_second: NonZeroU32) -> Self {
        Self::Slow { rest, pause: pause(bytes_per_second), sleep: None }
    }

    pub fn fill(left: u64, Filler { begin, pattern }: Filler) -> Self {
        let chunk = Bytes::from(pattern.repeat(CHUNK / pattern.len().max(1)));
        Self::Fill { left, next: [begin, &chunk].concat().into(), chunk }
    }

    pub fn endless() -> Self {
        Self::Endless { chunk: vec![b' '; CHUNK].into() }
    }
}

/// The time between two bytes.
pub(super) fn pause(bytes_per_second: NonZeroU32) -> Duration {
    Duration::from_secs(1) / bytes_per_second.get()
}

type NextFrame = Poll<Option<Result<Frame<Bytes>, io::Error>>>;

fn data(bytes: Bytes) -> NextFrame {
    Poll::Ready(Some(Ok(Frame::data(bytes))))
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> NextFrame {
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Truncated { sent, flushed, .. } => {
                if let Some(half) = sent.take() {
                    return data(half);
                }
                if !*flushed {
                    // Pending once, so that the half is sent before the connection ends.
                    *flushed = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
            }
            Self::Slow { rest, pause, sleep } => {
                if rest.is_empty() {
                    return Poll::Ready(None);
                }
                let timer = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(*pause)));
                ready!(timer.as_mut().poll(cx));
                *sleep = None;
                data(rest.split_to(1))
            }
            Self::Fill { left: 0, .. } => Poll::Ready(None),
            Self::Fill { left, next, chunk } => {
                let piece = std::mem::replace(next, chunk.clone());
                let size = usize::try_from(*left).map_or(piece.len(), |left| left.min(piece.len()));
                *left -= size as u64;
                data(piece.slice(..size))
            }
            Self::Endless { chunk } => data(chunk.clone()),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.as_ref().is_none_or(Bytes::is_empty),
            Self::Slow { rest, .. } => rest.is_empty(),
            Self::Fill { left, .. } => *left == 0,
            Self::Truncated { .. } | Self::Endless { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64),
            Self::Truncated { announced, .. } => SizeHint::with_exact(*announced),
            Self::Slow { rest, .. } => SizeHint::with_exact(rest.len() as u64),
            Self::Fill { left, .. } => SizeHint::with_exact(*left),
            Self::Endless { .. } => SizeHint::default(),
        }
    }
}
