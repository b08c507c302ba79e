//! What a fuzzer feeds (`make fuzz`), and what has to hold for every input. Each target is a function
//! that panics when it does not hold; its corpus is in `fuzz/corpus/`, and is tried by a unit test, too.

mod ca_bundle;
mod certificate;
mod device;
mod dps_answer;
mod formats;
mod hub_and_connection_string;
mod issued_chain;
mod key_secret;
mod parts;
mod retry_after;
mod secret_read_back;
#[cfg(test)]
mod tests;

pub use self::ca_bundle::ca_bundle;
pub use self::certificate::certificate;
pub use self::device::device;
pub use self::dps_answer::dps_answer;
pub use self::formats::formats;
pub use self::hub_and_connection_string::hub_and_connection_string;
pub use self::issued_chain::issued_chain;
pub use self::key_secret::key_secret;
pub use self::retry_after::retry_after;
pub use self::secret_read_back::secret_read_back;

/// Panics when something does not hold for the input.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const ALL: [(&str, Target); 10] = [
    ("ca_bundle", ca_bundle),
    ("certificate", certificate),
    ("device", device),
    ("dps_answer", dps_answer),
    ("formats", formats),
    ("hub_and_connection_string", hub_and_connection_string),
    ("issued_chain", issued_chain),
    ("key_secret", key_secret),
    ("retry_after", retry_after),
    ("secret_read_back", secret_read_back),
];
