//! Where a key's messages go.

/// The partition of a key among `partitions`, as Kafka's own clients have it: murmur2 of the key, without its sign bit.
///
/// Algorithm: `org.apache.kafka.common.utils.Utils.murmur2`, which is Austin Appleby's MurmurHash2 with a fixed seed.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    #[allow(clippy::cast_possible_wrap, reason = "the sign bit is cleared")]
    let positive = (murmur2(key) & 0x7fff_ffff) as i32;
    positive % partitions.max(1)
}

fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    #[allow(clippy::cast_possible_truncation, reason = "the algorithm mixes in the length's low 32 bits")]
    let mut hash = SEED ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(M);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(M) ^ mixed.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_kafkas_own_clients_hash_them() {
        // The values that Apache Kafka's own test of the function expects.
        for (key, expected) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
    }

    #[test]
    fn every_key_has_a_partition() {
        for partitions in [1, 2, 6, 7] {
            for key in 0..1000_u32 {
                assert!((0..partitions).contains(&partition_of(key.to_string().as_bytes(), partitions)));
            }
        }
    }
}
