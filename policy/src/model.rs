//! Qwen2 over token rows. The only definition of the model: worker, learner and evaluator all run this file.
//!
//! Legend: T rows, H hidden, Q query heads, K key-value heads, D head width, I feed-forward width, V vocabulary.

use crate::{
    cache::Cache,
    kernels::{
        Kernels,
        attention::{Heads, attention},
        linear::linear,
        rms_norm::rms_norm,
        rope::{Rotation, rope},
        swiglu::swiglu,
    },
    rows::Rows,
    shape::Shape,
};
use candle_core::{Result, Tensor};
use std::collections::BTreeMap;

/// The weights of one layer, named as in the checkpoint.
#[derive(Debug, Clone)]
struct Layer {
    input_layernorm: Tensor,
    q_proj: (Tensor, Tensor),
    k_proj: (Tensor, Tensor),
    v_proj: (Tensor, Tensor),
    o_proj: Tensor,
    post_attention_layernorm: Tensor,
    gate_proj: Tensor,
    up_proj: Tensor,
    down_proj: Tensor,
}

/// A Qwen2 decoder.
#[derive(Debug, Clone)]
pub struct Model {
    shape: Shape,
    kernels: Kernels,
    embed_tokens: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    /// `None` if tied to the embedding.
    lm_head: Option<Tensor>,
}

impl Model {
    /// Puts named tensors in their places. Whether gradients flow is decided by whether the tensors are variables.
    pub(crate) fn new(shape: &Shape, kernels: Kernels, weights: &BTreeMap<String, Tensor>) -> Result<Self> {
        let get = |name: String| match weights.get(&name) {
            Some(tensor) => Ok(tensor.clone()),
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
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// Final normalised states of the wanted rows, `[K, H]` (or `[T, H]` if all are wanted).
    ///
    /// With a cache, keys and values are appended to it and rows may see everything in it.
    pub(crate) fn hidden(&self, rows: &Rows, mut cache: Option<&mut Cache>) -> Result<Tensor> {
        let device = self.embed_tokens.device();
        let rotation = Rotation::new(&rows.positions, &self.shape);
        let tokens = Tensor::new(rows.tokens.as_slice(), device)?;
        let mut x_th = self.embed_tokens.index_select(&tokens, 0)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let normed_th = rms_norm(self.kernels, &x_th, &layer.input_layernorm, self.shape.rms_norm_eps)?;
            let k = rope(self.kernels, &self.project(&normed_th, &layer.k_proj)?, &rotation)?;
            let v = self.project(&normed_th, &layer.v_proj)?;
            let (k, v) = match &mut cache {
                Some(cache) => cache.append(index, &k, &v)?,
                None => (k, v),
            };
            // Behind its keys and values, the last layer only matters where a state is wanted.
            let kept = rows.kept.as_ref().filter(|_| index + 1 == self.layers.len());
            let (residual, normed, rotation, visible) = match kept {
                Some(kept) => {
                    let index = Tensor::new(kept.rows.as_slice(), device)?;
                    let positions: Vec<u32> = kept.rows.iter().map(|&row| rows.positions[row as usize]).collect();
                    let rotation = Rotation::new(&positions, &self.shape);
                    (x_th.index_select(&index, 0)?, normed_th.index_select(&index, 0)?, rotation, &kept.visible)
                }
                None => (x_th, normed_th, rotation.clone(), &rows.visible),
            };
            let q = rope(self.kernels, &self.project(&normed, &layer.q_proj)?, &rotation)?;
            let attended = attention(self.kernels, &q, &k, &v, self.heads(), visible)?;
            x_th = (residual + linear(self.kernels, &attended, &layer.o_proj, None)?)?;
            let normed_th = rms_norm(self.kernels, &x_th, &layer.post_attention_layernorm, self.shape.rms_norm_eps)?;
            x_th = (x_th + self.feed_forward(layer, &normed_th)?)?;
        }
        rms_norm(self.kernels, &x_th, &self.norm, self.shape.rms_norm_eps)
    }

    /// Logits of every row of whole sequences, `[T, V]`: for tests and tools, not for training.
    ///
    /// # Errors
    /// Whatever candle reports, for example a token outside the vocabulary.
    pub fn logits(&self, sequences: &[Vec<u32>]) -> Result<Tensor> {
        let rows = Rows::sequences(sequences.iter().map(Vec::as_slice));
        linear(self.kernels, &self.hidden(&rows, None)?, self.head(), None)
    }

    fn heads(&self) -> Heads {
        Heads {
            queries: self.shape.num_attention_heads,
            keys: self.shape.num_key_value_heads,
            dim: self.shape.head_dim(),
        }
    }

    fn project(&self, x_th: &Tensor, (weight, bias): &(Tensor, Tensor)) -> Result<Tensor> {
        linear(self.kernels, x_th, weight, Some(bias))
    }

    fn feed_forward(&self, layer: &Layer, x_th: &Tensor) -> Result<Tensor> {
        let gate_ti = linear(self.kernels, x_th, &layer.gate_proj, None)?;
        let up_ti = linear(self.kernels, x_th, &layer.up_proj, None)?;
        linear(self.kernels, &swiglu(self.kernels, &gate_ti, &up_ti)?, &layer.down_proj, None)
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
