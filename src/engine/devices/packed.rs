//! Texts kept in little memory. The objects of a fleet differ in names, times and hashes only, so each is
//! packed with an earlier one as its dictionary.

use std::sync::Arc;

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};

/// A longer text is no dictionary: one is kept as long as it is the latest, also when its device is gone.
const LONGEST_SAMPLE: usize = 8 * 1024;
/// Names, times and hashes of one device come to this many bytes at most.
const OWN: usize = 256;
/// So many texts at least share a sample before another one takes its place.
const SHARED_BY: usize = 64;

/// A packed text, and what it was packed with.
pub(super) struct Packed {
    bytes: Box<[u8]>,
    sample: Arc<[u8]>,
}

impl Packed {
    /// `None` if it cannot be unpacked, which nothing but damaged memory makes of it.
    pub fn text(&self) -> Option<Vec<u8>> {
        decompress_size_prepended_with_dict(&self.bytes, &self.sample).ok()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// The text that others are packed with.
#[derive(Default)]
pub(super) struct Packer {
    sample: Arc<[u8]>,
    /// So many were packed with it.
    packed: usize,
}

impl Packer {
    /// A text that is not much like the sample is the next sample, unless that one is new: so a sample is
    /// soon one of those that say most, which those that say less are like, and among texts that are like
    /// nothing it is no more than one of many.
    pub fn pack(&mut self, text: &[u8]) -> Packed {
        let mut packed = self.packed_with_sample(text);
        let is_alike = packed.bytes.len() <= text.len() / 8 + OWN;
        let gives_way = !is_alike && self.packed >= SHARED_BY;
        if (self.sample.is_empty() || gives_way) && text.len() <= LONGEST_SAMPLE {
            (self.sample, self.packed) = (text.into(), 0);
            packed = self.packed_with_sample(text);
        }
        self.packed += 1;
        packed
    }

    fn packed_with_sample(&self, text: &[u8]) -> Packed {
        let bytes = compress_prepend_size_with_dict(text, &self.sample);
        Packed { bytes: bytes.into_boxed_slice(), sample: self.sample.clone() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The statuses of devices say a message more than once.
    fn text(name: &str, message: &str) -> Vec<u8> {
        let text = json!({
            "metadata": {"name": name, "namespace": "fleet", "generation": 3},
            "spec": {"integrationRef": {"name": "factory"}, "payload": {"site": "west"}},
            "status": {"conditions": [
                {"type": "Ready", "status": "False", "message": message},
                {"type": "Registered", "status": "False", "message": message},
                {"type": "Stalled", "status": "True", "message": message},
            ]},
        });
        text.to_string().into_bytes()
    }

    #[test]
    fn a_text_like_the_one_before_takes_a_fraction() {
        let mut packer = Packer::default();
        let message = "DPS refused the request as invalid. Check spec.payload.";
        let lengths: Vec<_> = (1..100)
            .map(|number| {
                let text = text(&format!("truck-{number}"), message);
                let packed = packer.pack(&text);
                assert_eq!(packed.text().as_deref(), Some(&*text));
                (packed.len(), text.len())
            })
            .collect();
        assert!(lengths.iter().all(|(packed, whole)| *packed < whole / 4), "{lengths:?}");
    }

    #[test]
    fn a_sample_that_most_are_not_like_gives_way_and_one_that_few_are_not_like_stays() {
        let mut packer = Packer::default();
        let message = (0..300_u32).map(|word| word.to_string()).collect::<String>();
        packer.pack(b"a text of its own, which was the first");
        let lengths: Vec<_> =
            (1..200).map(|number| packer.pack(&text(&format!("truck-{number}"), &message)).len()).collect();
        assert!(lengths[SHARED_BY..].iter().all(|packed| *packed < 100), "{lengths:?}");

        let noise = |seed: u32| -> Vec<u8> {
            (1..2000_u32).map(|at| (at.wrapping_mul(seed.wrapping_mul(2_654_435_761)) >> 24) as u8).collect()
        };
        let samples: Vec<_> = (1..1000).map(|seed| packer.pack(&noise(seed)).sample).collect();
        let changes = samples.windows(2).filter(|pair| !Arc::ptr_eq(&pair[0], &pair[1])).count();
        assert!(changes <= 1000 / SHARED_BY, "{changes}");
    }

    #[test]
    fn what_was_packed_with_another_sample_is_unpacked_with_that_one() {
        let mut packer = Packer::default();
        let texts =
            [b"a".repeat(50), text("truck-1", "m"), (0..=255).collect(), text("truck-2", "m"), vec![]];
        let packed: Vec<_> = texts.iter().map(|text| packer.pack(text)).collect();
        for (packed, text) in packed.iter().zip(&texts) {
            assert_eq!(packed.text().as_ref(), Some(text));
        }
    }

    #[test]
    fn a_long_text_is_packed_and_is_no_sample() {
        let mut packer = Packer::default();
        let long: Vec<_> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(packer.pack(&long).text(), Some(long));
        assert!(packer.sample.len() <= LONGEST_SAMPLE);
    }

    proptest! {
        #[test]
        fn any_texts_come_back_as_they_were(texts in prop::collection::vec(".{0,300}", 0..20)) {
            let mut packer = Packer::default();
            for text in texts {
                let packed = packer.pack(text.as_bytes());
                prop_assert_eq!(packed.text(), Some(text.into_bytes()));
            }
        }
    }
}
