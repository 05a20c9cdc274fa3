//! Qwen2 over token rows. The only definition of the model: worker, learner and evaluator all run this file, by the
//! `Operations` that suit them.
//!
//! Legend: T rows, H hidden, Q query heads, K key-value heads, D head width, I feed-forward width, V vocabulary.

use crate::{
    cache::Cache,
    kernels::{Kernels, attention::Heads, linear::linear, rope::Rotation},
    operations::{Operations, Tensors, Weight},
    rows::Rows,
    shape::Shape,
};
use candle_core::{Result, Tensor};
use std::collections::BTreeMap;

/// The weights of one layer, named as in the checkpoint.
#[derive(Debug, Clone)]
struct Layer {
    input_layernorm: Weight,
    q_proj: (Weight, Weight),
    k_proj: (Weight, Weight),
    v_proj: (Weight, Weight),
    o_proj: Weight,
    post_attention_layernorm: Weight,
    gate_proj: Weight,
    up_proj: Weight,
    down_proj: Weight,
}

/// A Qwen2 decoder.
#[derive(Debug, Clone)]
pub struct Model {
    shape: Shape,
    kernels: Kernels,
    embed_tokens: Weight,
    layers: Vec<Layer>,
    norm: Weight,
    /// `None` if tied to the embedding.
    lm_head: Option<Weight>,
}

impl Model {
    /// Puts named tensors in their places. Whether gradients flow is decided by whether the tensors are variables.
    pub(crate) fn new(shape: &Shape, kernels: Kernels, weights: &BTreeMap<String, Tensor>) -> Result<Self> {
        let get = |name: String| match weights.iter().position(|(key, _)| *key == name) {
            Some(index) => Ok(Weight { tensor: weights[&name].clone(), index }),
            None => candle_core::bail!("parameter `{name}` is missing"),
        };
        let layer = |index: usize| {
            let get = |name: &str| get(format!("model.layers.{index}.{name}"));
            let biased = |name: &str| {
                Ok::<_, candle_core::Error>((
                    get(&format!("self_attn.{name}.weight"))?,
                    get(&format!("self_attn.{name}.bias"))?,
                ))
            };
            Ok(Layer {
                input_layernorm: get("input_layernorm.weight")?,
                q_proj: biased("q_proj")?,
                k_proj: biased("k_proj")?,
                v_proj: biased("v_proj")?,
                o_proj: get("self_attn.o_proj.weight")?,
                post_attention_layernorm: get("post_attention_layernorm.weight")?,
                gate_proj: get("mlp.gate_proj.weight")?,
                up_proj: get("mlp.up_proj.weight")?,
                down_proj: get("mlp.down_proj.weight")?,
            })
        };
        Ok(Self {
            embed_tokens: get("model.embed_tokens.weight".to_owned())?,
            layers: (0..shape.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: get("model.norm.weight".to_owned())?,
            lm_head: if shape.tie_word_embeddings { None } else { Some(get("lm_head.weight".to_owned())?) },
            shape: shape.clone(),
            kernels,
        })
    }

    /// The model's sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Which form of the operations it uses.
    pub(crate) fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// The same weights with another form of the operations, for comparing the forms.
    pub fn with_kernels(self, kernels: Kernels) -> Self {
        Self { kernels, ..self }
    }

    /// The output head `[V, H]`.
    pub(crate) fn head(&self) -> &Tensor {
        &self.head_weight().tensor
    }

    /// The output head with its place among the parameters.
    pub(crate) fn head_weight(&self) -> &Weight {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// Final normalised states of the wanted rows, `[K, H]` (or `[T, H]` if all are wanted).
    ///
    /// With a cache, keys and values are appended to it and rows may see everything in it.
    pub(crate) fn hidden(&self, rows: &Rows, cache: Option<&mut Cache>) -> Result<Tensor> {
        self.run(&mut Tensors { kernels: self.kernels, cache }, rows)
    }

    /// [`hidden`](Self::hidden) by any kind of operations.
    pub(crate) fn run<O: Operations>(&self, ops: &mut O, rows: &Rows) -> Result<O::Value> {
        let (rotation, eps) = (Rotation::new(&rows.positions, &self.shape), self.shape.rms_norm_eps);
        let mut x_th = ops.embed(&self.embed_tokens, &rows.tokens)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let normed_th = ops.rms_norm(&x_th, &layer.input_layernorm, eps)?;
            let k = ops.linear(&normed_th, &layer.k_proj.0, Some(&layer.k_proj.1))?;
            let k = ops.rope(k, &rotation)?;
            let v = ops.linear(&normed_th, &layer.v_proj.0, Some(&layer.v_proj.1))?;
            let (k, v) = ops.with_earlier(index, k, v)?;
            // Behind its keys and values, the last layer only matters where a state is wanted.
            let kept = rows.kept.as_ref().filter(|_| index + 1 == self.layers.len());
            let (residual, q, visible) = match kept {
                Some(kept) => {
                    let positions: Vec<u32> = kept.rows.iter().map(|&row| rows.positions[row as usize]).collect();
                    let normed = ops.select(&normed_th, &kept.rows)?;
                    let q = ops.linear(&normed, &layer.q_proj.0, Some(&layer.q_proj.1))?;
                    ops.done(normed);
                    let q = ops.rope(q, &Rotation::new(&positions, &self.shape))?;
                    let residual = ops.select(&x_th, &kept.rows)?;
                    ops.done(x_th);
                    (residual, q, &kept.visible)
                }
                None => {
                    let q = ops.linear(&normed_th, &layer.q_proj.0, Some(&layer.q_proj.1))?;
                    (x_th, ops.rope(q, &rotation)?, &rows.visible)
                }
            };
            ops.forget(normed_th);
            let attended = ops.attention(&q, &k, &v, self.heads(), visible)?;
            [q, k, v].into_iter().for_each(|value| ops.done(value));
            x_th = ops.linear_onto(&residual, &attended, &layer.o_proj)?;
            [residual, attended].into_iter().for_each(|value| ops.done(value));
            let normed_th = ops.rms_norm(&x_th, &layer.post_attention_layernorm, eps)?;
            let gate_ti = ops.linear(&normed_th, &layer.gate_proj, None)?;
            let up_ti = ops.linear(&normed_th, &layer.up_proj, None)?;
            ops.forget(normed_th);
            let activated_ti = ops.swiglu(&gate_ti, &up_ti)?;
            [gate_ti, up_ti].into_iter().for_each(|value| ops.done(value));
            let residual = x_th;
            x_th = ops.linear_onto(&residual, &activated_ti, &layer.down_proj)?;
            ops.forget(activated_ti);
            ops.done(residual);
        }
        let hidden = ops.rms_norm(&x_th, &self.norm, eps)?;
        ops.done(x_th);
        Ok(hidden)
    }

    /// Logits of every row of whole sequences, `[T, V]`: for tests and tools, not for training.
    ///
    /// # Errors
    /// Whatever candle reports, for example a token outside the vocabulary.
    pub fn logits(&self, sequences: &[Vec<u32>]) -> Result<Tensor> {
        let rows = Rows::sequences(sequences.iter().map(Vec::as_slice));
        linear(self.kernels, &self.hidden(&rows, None)?, self.head(), None)
    }

    /// The weights that rows are multiplied with, the head aside.
    pub(crate) fn projections(&self) -> Vec<&Weight> {
        let mut weights = vec![];
        for Layer { q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, .. } in &self.layers {
            weights.extend([&q_proj.0, &k_proj.0, &v_proj.0, o_proj, gate_proj, up_proj, down_proj]);
        }
        weights
    }

    fn heads(&self) -> Heads {
        Heads {
            queries: self.shape.num_attention_heads,
            keys: self.shape.num_key_value_heads,
            dim: self.shape.head_dim(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parameters::Parameters, testing::tiny_shape};
    use candle_core::{DType, Device};
    use candle_transformers::models::qwen2;
    use riser_core::random::Seed;

    /// The same weights in candle-transformers' inference-only Qwen2.
    fn peer(parameters: &Parameters) -> qwen2::ModelForCausalLM {
        let shape = parameters.shape();
        let config = qwen2::Config {
            vocab_size: shape.vocab_size,
            hidden_size: shape.hidden_size,
            intermediate_size: shape.intermediate_size,
            num_hidden_layers: shape.num_hidden_layers,
            num_attention_heads: shape.num_attention_heads,
            num_key_value_heads: shape.num_key_value_heads,
            max_position_embeddings: shape.max_position_embeddings,
            sliding_window: shape.max_position_embeddings,
            max_window_layers: shape.num_hidden_layers,
            tie_word_embeddings: shape.tie_word_embeddings,
            rope_theta: shape.rope_theta,
            rms_norm_eps: shape.rms_norm_eps,
            use_sliding_window: false,
            hidden_act: candle_nn::Activation::Silu,
        };
        let weights = parameters.vars().iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        let builder = candle_nn::VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
        qwen2::ModelForCausalLM::new(&config, builder).unwrap()
    }

    #[test]
    fn logits_equal_those_of_candle_transformers_in_both_forms() {
        for tied in [true, false] {
            let shape = Shape { tie_word_embeddings: tied, ..tiny_shape() };
            let parameters = Parameters::initialise(&shape, Seed(4), &Device::Cpu).unwrap();
            let sequence: Vec<u32> = vec![1, 9, 4, 17, 3, 3, 22];
            let input = Tensor::new(sequence.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            let expected =
                peer(&parameters).forward(&input, 0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for kernels in [Kernels::Fused, Kernels::Composed] {
                let model = parameters.inference_model().unwrap().with_kernels(kernels);
                let logits = model.logits(std::slice::from_ref(&sequence)).unwrap().to_vec2::<f32>().unwrap();
                for (got, expected) in logits[sequence.len() - 1].iter().zip(&expected) {
                    assert!((got - expected).abs() < 1e-4, "{got} instead of {expected}");
                }
            }
        }
    }
}
