//! Memory that one layer has done with and another one takes: fresh pages cost more than what is computed in them.

use crate::run::Sums;
use crate::tensor::{Data, Tensor};

/// Most buffers of a kind that are kept.
const MOST: usize = 8;

/// Buffers of one sample's run. What they held before is no input of anything.
#[derive(Debug, Default)]
pub struct Buffers {
    bytes: Vec<Vec<u8>>,
    words: Vec<Vec<i32>>,
}

impl Buffers {
    /// Bytes of any content.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        take(&mut self.bytes, len)
    }

    /// Words of any content.
    pub fn words(&mut self, len: usize) -> Vec<i32> {
        take(&mut self.words, len)
    }

    /// Takes a tensor that nobody needs.
    pub fn give(&mut self, tensor: Tensor) {
        if let Data::Codes { codes, .. } = tensor.data
            && let Some(bytes) = codes.into_bytes()
        {
            keep(&mut self.bytes, bytes);
        }
    }

    /// Takes sums that nobody needs.
    pub fn give_sums(&mut self, sums: Sums) {
        if let Sums::I32(words) = sums {
            keep(&mut self.words, words);
        }
    }
}

/// The smallest buffer that is long enough, else a new one.
fn take<T: Copy + Default>(buffers: &mut Vec<Vec<T>>, len: usize) -> Vec<T> {
    let fits = |(_, buffer): &(usize, &Vec<T>)| buffer.capacity() >= len;
    let smallest = buffers
        .iter()
        .enumerate()
        .filter(fits)
        .min_by_key(|(_, buffer)| buffer.capacity());
    let Some((at, _)) = smallest else {
        return vec![T::default(); len];
    };
    let mut buffer = buffers.swap_remove(at);
    buffer.resize(len, T::default());
    buffer
}

/// Keeps a buffer in place of the smallest one.
fn keep<T>(buffers: &mut Vec<Vec<T>>, buffer: Vec<T>) {
    buffers.push(buffer);
    if buffers.len() > MOST {
        let capacity = |(_, buffer): &(usize, &Vec<T>)| buffer.capacity();
        if let Some((at, _)) = buffers.iter().enumerate().min_by_key(capacity) {
            buffers.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_where_it_is_long_enough() {
        let mut buffers = Buffers::default();
        let first = buffers.words(100);
        let at = first.as_ptr();
        buffers.give_sums(Sums::I32(first));
        let longer = buffers.words(1000);
        assert_ne!(longer.as_ptr(), at);
        let again = buffers.words(50);
        assert_eq!((again.as_ptr(), again.len()), (at, 50));
    }

    #[test]
    fn few_buffers_are_kept() {
        let mut buffers = Buffers::default();
        for len in 0..100 {
            buffers.give_sums(Sums::I32(vec![0; len]));
        }
        assert_eq!(buffers.words.len(), MOST);
    }
}
