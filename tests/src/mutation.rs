//! Changes to a sample that leave most of it right.

use crate::decoders::Layout;
use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// Numbers at which something often goes wrong.
const EDGES: [u64; 14] =
    [0, 1, 2, 3, 4, 127, 128, 255, (1 << 31) - 1, 1 << 31, u32::MAX as u64, 1 << 32, (1 << 63) - 1, u64::MAX];

/// Floats at which something often goes wrong.
const FLOATS: [f32; 8] = [0.0, -0.0, 1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, 0.5];

/// Draws changes.
#[derive(Debug)]
pub struct Mutator {
    draws: ChaCha8Rng,
}

impl Mutator {
    /// Changes that a stream of random numbers decides.
    pub fn new(draws: ChaCha8Rng) -> Self {
        Self { draws }
    }

    /// One of the samples with a few changes.
    ///
    /// # Panics
    /// Without samples.
    pub fn change(&mut self, samples: &[Vec<u8>], layout: Layout) -> Vec<u8> {
        let mut input = samples.choose(&mut self.draws).expect("a decoder has samples").clone();
        for _ in 0..self.draws.random_range(1..4) {
            let structured = self.draws.random_bool(0.8);
            match layout {
                Layout::Message if structured => self.change_message(&mut input),
                Layout::Messages if structured => self.change_messages(&mut input),
                Layout::Text if structured => self.change_text(&mut input),
                _ => self.change_bytes(&mut input),
            }
        }
        if let Layout::Sealed { seal } = layout
            && self.draws.random_bool(0.9)
        {
            seal(&mut input);
        }
        input
    }

    fn edge(&mut self) -> u64 {
        *EDGES.choose(&mut self.draws).expect("never empty")
    }

    fn change_bytes(&mut self, input: &mut Vec<u8>) {
        let at = self.draws.random_range(0..=input.len());
        let rest = input.len() - at;
        match self.draws.random_range(0..6) {
            0 if rest > 0 => input[at] ^= 1 << self.draws.random_range(0..8),
            1 if rest > 0 => input[at] = self.draws.random(),
            2 if rest >= 4 => {
                let edge = self.edge() as u32;
                input[at..at + 4].copy_from_slice(&edge.to_le_bytes());
            }
            3 if rest >= 8 => {
                let edge = self.edge();
                input[at..at + 8].copy_from_slice(&edge.to_le_bytes());
            }
            4 => input.truncate(at),
            _ => {
                // A piece once more, or nowhere.
                let end = at + self.draws.random_range(0..=rest.min(16));
                if self.draws.random() {
                    let piece = input[at..end].to_vec();
                    input.splice(at..at, piece);
                } else {
                    input.drain(at..end);
                }
            }
        }
    }

    /// Another number, or another word of the text itself, in the place of one.
    fn change_text(&mut self, input: &mut Vec<u8>) {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-\"".contains(byte);
        let mut words = vec![];
        let mut start = None;
        for (at, byte) in input.iter().enumerate() {
            match (is_word(byte), start) {
                (true, None) => start = Some(at),
                (false, Some(from)) => {
                    words.push(from..at);
                    start = None;
                }
                _ => {}
            }
        }
        let (Some(word), Some(other)) =
            (words.choose(&mut self.draws).cloned(), words.choose(&mut self.draws).cloned())
        else {
            return self.change_bytes(input);
        };
        let text = match self.draws.random_range(0..5) {
            0 => self.edge().to_string().into_bytes(),
            1 => (*FLOATS.choose(&mut self.draws).expect("never empty")).to_string().into_bytes(),
            2 => [&b"-"[..], &input[word.clone()]].concat(),
            3 => vec![],
            _ => input[other].to_vec(),
        };
        input.splice(word, text);
    }

    fn change_messages(&mut self, input: &mut Vec<u8>) {
        let mut messages = vec![];
        let mut rest = &input[..];
        while let Some((length, after)) = varint(rest) {
            let Some((message, after)) = after.split_at_checked(length as usize) else { break };
            messages.push(message.to_vec());
            rest = after;
        }
        if messages.is_empty() {
            return self.change_bytes(input);
        }
        let at = self.draws.random_range(0..messages.len());
        match self.draws.random_range(0..6) {
            0 => drop(messages.remove(at)),
            1 => messages.insert(at, messages[at].clone()),
            2 => messages.swap(at, 0),
            _ => self.change_message(&mut messages[at]),
        }
        input.clear();
        for message in messages {
            put_varint(input, message.len() as u64);
            input.extend(message);
        }
    }

    fn change_message(&mut self, input: &mut Vec<u8>) {
        let Some(mut fields) = fields(input) else { return self.change_bytes(input) };
        if fields.is_empty() {
            fields.push((self.draws.random_range(1..9), Value::Varint(1)));
        }
        let at = self.draws.random_range(0..fields.len());
        match self.draws.random_range(0..10) {
            0 => drop(fields.remove(at)),
            1 => fields.insert(at, fields[at].clone()),
            2 => fields[at].0 = self.draws.random_range(1..20),
            _ => self.change_value(&mut fields[at].1),
        }
        *input = written(&fields);
    }

    fn change_value(&mut self, value: &mut Value) {
        match value {
            Value::Varint(number) => {
                *number = if self.draws.random() {
                    self.edge()
                } else {
                    number.wrapping_add(self.draws.random_range(0..3)).wrapping_sub(1)
                };
            }
            Value::Fixed32(bytes) => *bytes = FLOATS.choose(&mut self.draws).expect("never empty").to_le_bytes(),
            Value::Fixed64(bytes) => *bytes = self.edge().to_le_bytes(),
            Value::Bytes(bytes) => match self.draws.random_range(0..4) {
                // It may be a message, packed numbers, packed floats, a digest or text.
                0 if fields(bytes).is_some_and(|fields| !fields.is_empty()) => self.change_message(bytes),
                1 => {
                    let mut packed = bytes.clone();
                    let (mut numbers, mut rest) = (vec![], &packed[..]);
                    while let Some((number, after)) = varint(rest) {
                        numbers.push(number);
                        rest = after;
                    }
                    if rest.is_empty() && !numbers.is_empty() {
                        let at = self.draws.random_range(0..numbers.len());
                        numbers[at] = self.edge();
                        packed.clear();
                        numbers.into_iter().for_each(|number| put_varint(&mut packed, number));
                        *bytes = packed;
                    } else {
                        self.change_bytes(bytes);
                    }
                }
                2 if bytes.len() >= 4 => {
                    let at = 4 * self.draws.random_range(0..bytes.len() / 4);
                    bytes[at..at + 4]
                        .copy_from_slice(&FLOATS.choose(&mut self.draws).expect("never empty").to_le_bytes());
                }
                _ if fields(bytes).is_some_and(|fields| !fields.is_empty()) => self.change_message(bytes),
                _ => self.change_bytes(bytes),
            },
        }
    }
}

/// A value as protobuf lays it out.
#[derive(Clone)]
enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(Vec<u8>),
    Fixed32([u8; 4]),
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 127).checked_shl(7 * at as u32)?;
        if byte & 128 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The fields of a message with their numbers; `None` if the bytes are none.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Value)>> {
    let mut fields = vec![];
    while !bytes.is_empty() {
        let (key, rest) = varint(bytes)?;
        let (value, rest) = match key & 7 {
            0 => varint(rest).map(|(number, rest)| (Value::Varint(number), rest))?,
            1 => rest.split_first_chunk().map(|(bytes, rest)| (Value::Fixed64(*bytes), rest))?,
            2 => {
                let (length, rest) = varint(rest)?;
                let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                (Value::Bytes(bytes.to_vec()), rest)
            }
            5 => rest.split_first_chunk().map(|(bytes, rest)| (Value::Fixed32(*bytes), rest))?,
            _ => return None,
        };
        if key >> 3 == 0 {
            return None;
        }
        fields.push((key >> 3, value));
        bytes = rest;
    }
    Some(fields)
}

fn written(fields: &[(u64, Value)]) -> Vec<u8> {
    let mut out = vec![];
    for (number, value) in fields {
        let kind = match value {
            Value::Varint(_) => 0,
            Value::Fixed64(_) => 1,
            Value::Bytes(_) => 2,
            Value::Fixed32(_) => 5,
        };
        put_varint(&mut out, number << 3 | kind);
        match value {
            Value::Varint(number) => put_varint(&mut out, *number),
            Value::Fixed64(bytes) => out.extend(bytes),
            Value::Bytes(bytes) => {
                put_varint(&mut out, bytes.len() as u64);
                out.extend(bytes);
            }
            Value::Fixed32(bytes) => out.extend(bytes),
        }
    }
    out
}
