//! The model's operations on plain slices without a way back, in memory that is used again.

use crate::{
    kernels::{
        attention::{self, Heads, ROW_BLOCK, Visibility},
        gather,
        linear::{self, Start},
        matrix::Mat,
        rms_norm,
        rope::{Rotation, Turn},
        storage::with_slices,
        swiglu,
    },
    operations::{Operations, Weight},
    tape::{
        Transposed,
        buffers::{Buffer, Buffers},
    },
};
use candle_core::Result;
use std::{ops::Range, sync::Arc};

/// Memory of one batch of descents.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// Keys and values of each layer, `[rows, K * D]`.
    earlier: Vec<(Vec<f32>, Vec<f32>)>,
    /// Rows that all layers have.
    len: usize,
    /// Rows that the next pass fills, in its order; behind all others if there are none.
    awaited: Vec<Range<usize>>,
    /// Values in use, and places that are not.
    values: Vec<(Buffer, usize)>,
    unused: Vec<usize>,
    buffers: Buffers,
}

/// Where a value is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Id {
    Value(usize),
    /// Keys of all rows so far in a layer.
    Keys(usize),
    /// Values of all rows so far in a layer.
    Values(usize),
}

impl Workspace {
    /// Rows computed so far.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The numbers of a value, row by row.
    pub(super) fn value(&self, id: Id) -> &[f32] {
        match id {
            Id::Value(place) => &self.values[place].0,
            Id::Keys(layer) => &self.earlier[layer].0,
            Id::Values(layer) => &self.earlier[layer].1,
        }
    }

    /// Forgets all rows and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.earlier.iter_mut().for_each(|(keys, values)| {
            keys.clear();
            values.clear();
        });
        for (buffer, _) in self.values.drain(..) {
            self.buffers.give_back(buffer);
        }
        self.unused.clear();
    }

    /// Makes room for `rows` rows in every layer, of arbitrary content.
    pub(super) fn reserve(&mut self, rows: usize, layers: usize, width: usize) {
        self.earlier.resize_with(layers, Default::default);
        for (keys, values) in &mut self.earlier {
            keys.resize(rows * width, 0.0);
            values.resize(rows * width, 0.0);
        }
        self.len = rows;
    }

    /// Says which rows the next pass fills, in its order.
    pub(super) fn await_rows(&mut self, rows: Vec<Range<usize>>) {
        self.awaited = rows;
    }

    /// Numbers of a row: its keys and values in all layers.
    pub(super) fn numbers_per_row(&self) -> usize {
        let per_row = |numbers: &Vec<f32>| numbers.len() / self.len.max(1);
        self.earlier.iter().map(|(keys, values)| per_row(keys) + per_row(values)).sum()
    }

    /// Fills rows with what [`read_rows`](Self::read_rows) has read.
    pub(super) fn write_rows(&mut self, rows: Range<usize>, numbers: &[f32]) {
        let (len, mut numbers) = (self.len, numbers);
        for layer in self.earlier.iter_mut().flat_map(|(keys, values)| [keys, values]) {
            let width = layer.len() / len;
            let (of_layer, rest) = numbers.split_at(rows.len() * width);
            layer[rows.start * width..rows.end * width].copy_from_slice(of_layer);
            numbers = rest;
        }
    }

    /// Appends the keys and values of rows, layer by layer.
    pub(super) fn read_rows(&self, rows: Range<usize>, numbers: &mut Vec<f32>) {
        for layer in self.earlier.iter().flat_map(|(keys, values)| [keys, values]) {
            let width = layer.len() / self.len;
            numbers.extend_from_slice(&layer[rows.start * width..rows.end * width]);
        }
    }

    /// Takes the memory of a value back.
    pub(super) fn done(&mut self, id: Id) {
        if let Id::Value(place) = id {
            let (buffer, _) = std::mem::take(&mut self.values[place]);
            self.buffers.give_back(buffer);
            self.unused.push(place);
        }
    }

    fn hold(&mut self, buffer: Buffer, width: usize) -> Id {
        match self.unused.pop() {
            Some(place) => {
                self.values[place] = (buffer, width);
                Id::Value(place)
            }
            None => {
                self.values.push((buffer, width));
                Id::Value(self.values.len() - 1)
            }
        }
    }

    fn width(&self, id: Id) -> usize {
        match id {
            Id::Value(place) => self.values[place].1,
            Id::Keys(_) | Id::Values(_) => unreachable!("only attention reads rows of other passes"),
        }
    }
}

/// One pass over new rows.
pub(super) struct Pass<'a> {
    pub(super) workspace: &'a mut Workspace,
    pub(super) transposed: &'a Transposed,
}

impl Pass<'_> {
    fn multiply(&self, x: Id, weight: &Weight, start: Start<'_>, y: &mut [f32]) -> Result<()> {
        let (outputs, inputs) = weight.tensor.dims2()?;
        let weight_io = self.transposed.get(weight).expect("every projection was transposed");
        linear::forward(self.workspace.value(x), Mat::new(weight_io, inputs, outputs), start, y);
        Ok(())
    }

    fn take(&mut self, len: usize) -> Buffer {
        self.workspace.buffers.take(len)
    }
}

impl Operations for Pass<'_> {
    type Value = Id;

    fn embed(&mut self, table: &Weight, tokens: &[u32]) -> Result<Id> {
        let width = table.tensor.dim(1)?;
        let mut y = self.take(tokens.len() * width);
        gather::embed(&table.tensor, tokens, &mut y)?;
        Ok(self.workspace.hold(y, width))
    }

    fn select(&mut self, x: &Id, rows: &[u32]) -> Result<Id> {
        let width = self.workspace.width(*x);
        let mut y = self.take(rows.len() * width);
        gather::gather(self.workspace.value(*x), rows, width, &mut y);
        Ok(self.workspace.hold(y, width))
    }

    fn rms_norm(&mut self, x: &Id, weight: &Weight, eps: f64) -> Result<Id> {
        let mut y = self.take(self.workspace.value(*x).len());
        with_slices([&weight.tensor], |[weight]| {
            rms_norm::forward(self.workspace.value(*x), weight, eps as f32, &mut y);
            Ok(())
        })?;
        Ok(self.workspace.hold(y, self.workspace.width(*x)))
    }

    fn linear(&mut self, x: &Id, weight: &Weight, bias: Option<&Weight>) -> Result<Id> {
        let (outputs, inputs) = weight.tensor.dims2()?;
        let mut y = self.take(self.workspace.value(*x).len() / inputs * outputs);
        match bias {
            Some(bias) => with_slices([&bias.tensor], |[bias]| self.multiply(*x, weight, Start::Bias(bias), &mut y)),
            None => self.multiply(*x, weight, Start::Nothing, &mut y),
        }?;
        Ok(self.workspace.hold(y, outputs))
    }

    fn linear_onto(&mut self, residual: &Id, x: &Id, weight: &Weight) -> Result<Id> {
        let outputs = weight.tensor.dim(0)?;
        let mut y = self.take(self.workspace.value(*residual).len());
        y.copy_from_slice(self.workspace.value(*residual));
        self.multiply(*x, weight, Start::Present, &mut y)?;
        Ok(self.workspace.hold(y, outputs))
    }

    fn rope(&mut self, x: Id, rotation: &Rotation) -> Result<Id> {
        let Id::Value(place) = x else { unreachable!("rows of other passes are rotated already") };
        let (values, width) = &mut self.workspace.values[place];
        rotation.rotate(values, *width, Turn::Forward);
        Ok(x)
    }

    fn with_earlier(&mut self, layer: usize, k: Id, v: Id) -> Result<(Id, Id)> {
        let workspace = &mut *self.workspace;
        let (Id::Value(k), Id::Value(v)) = (k, v) else { unreachable!("keys and values are of this pass") };
        let (keys, values) = &mut workspace.earlier[layer];
        let ((new_keys, width), (new_values, _)) = (&workspace.values[k], &workspace.values[v]);
        for (all, mut new) in [(&mut *keys, &new_keys[..]), (values, new_values)] {
            for rows in &workspace.awaited {
                let (of_rows, rest) = new.split_at(rows.len() * width);
                all[rows.start * width..rows.end * width].copy_from_slice(of_rows);
                new = rest;
            }
            all.extend_from_slice(new);
        }
        workspace.len = keys.len() / width;
        if layer + 1 == workspace.earlier.len() {
            workspace.awaited.clear();
        }
        workspace.done(Id::Value(k));
        workspace.done(Id::Value(v));
        Ok((Id::Keys(layer), Id::Values(layer)))
    }

    fn attention(&mut self, q: &Id, k: &Id, v: &Id, heads: Heads, visible: &Arc<Visibility>) -> Result<Id> {
        let mut y = self.take(self.workspace.value(*q).len());
        let [q_slice, k, v] = [q, k, v].map(|id| self.workspace.value(*id));
        attention::attend(&attention::Inputs { q: q_slice, k, v, heads }, visible, ROW_BLOCK, &mut y);
        Ok(self.workspace.hold(y, self.workspace.width(*q)))
    }

    fn swiglu(&mut self, gate: &Id, up: &Id) -> Result<Id> {
        let mut y = self.take(self.workspace.value(*gate).len());
        swiglu::forward(self.workspace.value(*gate), self.workspace.value(*up), &mut y);
        Ok(self.workspace.hold(y, self.workspace.width(*gate)))
    }

    fn forget(&mut self, x: Id) {
        self.workspace.done(x);
    }

    fn done(&mut self, x: Id) {
        self.workspace.done(x);
    }
}
