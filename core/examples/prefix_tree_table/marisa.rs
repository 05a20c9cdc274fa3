//! `marisa-trie` from PyPI, as recommenders in Python use it.

use crate::measure::Figures;
use std::{
    io::{BufWriter, Write},
    process::{Command, Stdio},
};

const PROGRAM: &str = include_str!("marisa.py");

/// Hands the spellings to the Python program and reads what it measured.
pub(crate) fn figures(paths: &[&[u32]]) -> Figures {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut child =
        Command::new(python).args(["-c", PROGRAM]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = BufWriter::new(child.stdin.take().unwrap());
    for path in paths {
        input.write_all(&(path.len() as u32).to_le_bytes()).unwrap();
        path.iter().for_each(|token| input.write_all(&token.to_le_bytes()).unwrap());
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    Figures::from_line(&String::from_utf8(output.stdout).unwrap()).unwrap()
}
