use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);

/// Calls `probe` until it returns `Some`, at most for `timeout`; `None` when it never did.
pub fn eventually<T>(timeout: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + timeout;
    loop {
        let answer = probe();
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
        std::thread::sleep(POLL);
    }
}
