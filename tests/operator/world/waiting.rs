//! Waiting for a condition, never for time to pass.

use std::time::{Duration, Instant};

/// Looks again and again until the look succeeds; when time is up, its last failure is returned.
pub async fn until<T, E>(
    patience: Duration,
    pause: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    let deadline = Instant::now() + patience;
    loop {
        match look().await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(pause).await,
            result => return result,
        }
    }
}

/// The same for what is either true or not; returns whether it became true.
pub async fn until_true(patience: Duration, pause: Duration, mut look: impl AsyncFnMut() -> bool) -> bool {
    until(patience, pause, async || look().await.then_some(()).ok_or(())).await.is_ok()
}
