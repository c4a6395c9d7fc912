//! Gzip, for files that people and other programs read and write.

use std::io::{self, Read, Write};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};

/// Hands over a writer whose bytes arrive compressed. What was written is whole only when this succeeds.
///
/// # Errors
/// The writer's own; else that of the end of the stream, as `failed` makes it.
pub fn compressed<T, E>(
    into: &mut dyn Write,
    failed: impl Fn(io::Error) -> E,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E> {
    let mut encoder = GzEncoder::new(into, Compression::fast());
    let written = write(&mut encoder)?;
    encoder.finish().and_then(|into| into.flush()).map_err(failed)?;
    Ok(written)
}

/// Reads compressed bytes; a stream that ends too early is an error, not an end.
pub fn decompressed<'a>(from: impl Read + Send + 'a) -> Box<dyn Read + Send + 'a> {
    Box::new(MultiGzDecoder::new(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_and_a_cut_stream_is_an_error() {
        let mut packed = Vec::new();
        compressed(&mut packed, |error| error, |into| into.write_all(&b"one row\n".repeat(10_000))).unwrap();
        let mut plain = Vec::new();
        decompressed(&packed[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(plain.len(), 80_000);
        for cut in [packed.len() - 1, packed.len() / 2, 5] {
            assert!(decompressed(&packed[..cut]).read_to_end(&mut Vec::new()).is_err(), "{cut}");
        }
    }
}
