//! Random numbers that are fixed by a seed for ever: ChaCha8, one generator for each purpose.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Generator of one purpose. Generators of the same seed and different `stream` numbers are independent, so that drawing
/// more numbers for one purpose leaves the numbers of all others unchanged.
pub(crate) fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream);
    generator
}
