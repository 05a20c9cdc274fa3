//! The shape of a Qwen2 model: `config.json` in both dialects of transformers, in and out.

use serde_json::{Value, json};

/// Sizes and constants of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Size of the vocabulary, V.
    pub vocab_size: usize,
    /// Width of the residual stream, H.
    pub hidden_size: usize,
    /// Width of the feed-forward block.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads per layer.
    pub num_attention_heads: usize,
    /// Key-value heads per layer; divides the query heads.
    pub num_key_value_heads: usize,
    /// Longest sequence, prompt and item together.
    pub max_position_embeddings: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Number format of the rotary frequencies.
    pub rotary_precision: RotaryPrecision,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f64,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Standard deviation of the initial weights.
    pub initializer_range: f64,
    /// First token of a prompt, for `generation` tools that ask.
    pub bos_token_id: Option<u32>,
    /// Token that ends an item.
    pub eos_token_id: Option<u32>,
}

/// Number format that rotary frequencies pass through before angles are made of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotaryPrecision {
    /// Full precision: what transformers uses for every checkpoint it loads, whatever the dtype of its weights.
    F32,
    /// Rounded to bf16: what a PyTorch module computes with after it was cast to bf16 as a whole, buffers included.
    Bf16,
}

/// Why a `config.json` is not a model we can train.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ShapeError {
    /// A key is missing or has the wrong type.
    #[error("`{key}` is missing or not {expected}")]
    Key {
        /// Name in `config.json`.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A value that this implementation does not support.
    #[error("`{key}` is {value}, supported: {supported}")]
    Unsupported {
        /// Name in `config.json`.
        key: &'static str,
        /// What was found.
        value: String,
        /// What would do.
        supported: &'static str,
    },
}

/// Width of a generated model's heads.
const HEAD_WIDTH: usize = 64;

/// Most layers of a model that is believed.
const MOST_LAYERS: usize = 1024;

impl Shape {
    /// A model to measure with: heads of 64, half as many of keys and values, a feed-forward three times as wide.
    pub fn generated(vocab_size: usize, hidden_size: usize, num_hidden_layers: usize, positions: usize) -> Self {
        let queries = (hidden_size / HEAD_WIDTH).max(1);
        Self {
            vocab_size,
            hidden_size,
            intermediate_size: 3 * hidden_size,
            num_hidden_layers,
            num_attention_heads: queries,
            num_key_value_heads: queries.div_ceil(2),
            max_position_embeddings: positions,
            rope_theta: 10_000.0,
            rotary_precision: RotaryPrecision::F32,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: true,
            initializer_range: 0.02,
            bos_token_id: Some(1),
            eos_token_id: Some(2),
        }
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Reads `config.json`, as transformers 4 (`rope_theta`) or 5 (`rope_parameters`) writes it.
    ///
    /// # Errors
    /// [`ShapeError`] names the key.
    pub fn from_json(config: &Value) -> Result<Self, ShapeError> {
        let count = |key: &'static str| {
            let value = config[key].as_u64().filter(|&value| value > 0 && value < 1 << 32);
            value.map(|value| value as usize).ok_or(ShapeError::Key { key, expected: "a positive integer" })
        };
        let number = |key: &'static str| config[key].as_f64().ok_or(ShapeError::Key { key, expected: "a number" });
        // Generation settings sometimes list several end tokens; the first is the model's own.
        let token = |key: &str| config[key].as_u64().or_else(|| config[key][0].as_u64()).map(|token| token as u32);
        let refuse =
            |key, value: &Value, supported| Err(ShapeError::Unsupported { key, value: value.to_string(), supported });
        if config["model_type"] != "qwen2" {
            return refuse("model_type", &config["model_type"], "\"qwen2\"");
        }
        if !matches!(config["hidden_act"].as_str(), None | Some("silu")) {
            return refuse("hidden_act", &config["hidden_act"], "\"silu\"");
        }
        if config["use_sliding_window"] == true {
            return refuse("use_sliding_window", &config["use_sliding_window"], "false");
        }
        let rope = &config["rope_parameters"];
        let scaling = if rope.is_null() { &config["rope_scaling"] } else { rope };
        let kind = scaling["rope_type"].as_str().or_else(|| scaling["type"].as_str());
        if !matches!(kind, None | Some("default")) {
            return refuse("rope_parameters", scaling, "rope_type \"default\"");
        }
        let rope_theta = rope["rope_theta"].as_f64().map_or_else(|| number("rope_theta"), Ok)?;
        let shape = Self {
            vocab_size: count("vocab_size")?,
            hidden_size: count("hidden_size")?,
            intermediate_size: count("intermediate_size")?,
            num_hidden_layers: count("num_hidden_layers")?,
            num_attention_heads: count("num_attention_heads")?,
            num_key_value_heads: count("num_key_value_heads")?,
            max_position_embeddings: count("max_position_embeddings")?,
            rope_theta,
            rotary_precision: RotaryPrecision::F32,
            rms_norm_eps: number("rms_norm_eps")?,
            tie_word_embeddings: config["tie_word_embeddings"].as_bool().unwrap_or(false),
            initializer_range: config["initializer_range"].as_f64().unwrap_or(0.02),
            bos_token_id: token("bos_token_id"),
            eos_token_id: token("eos_token_id"),
        };
        if config["head_dim"].as_u64().is_some_and(|dim| dim != shape.head_dim() as u64) {
            return refuse("head_dim", &config["head_dim"], "hidden_size / num_attention_heads");
        }
        shape.check()?;
        Ok(shape)
    }

    /// Checks that the sizes fit each other.
    ///
    /// # Errors
    /// [`ShapeError::Unsupported`] names the size that does not.
    pub fn check(&self) -> Result<(), ShapeError> {
        let refuse =
            |key, value: usize, supported| Err(ShapeError::Unsupported { key, value: value.to_string(), supported });
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) || !self.head_dim().is_multiple_of(2) {
            return refuse("hidden_size", self.hidden_size, "an even multiple of `num_attention_heads`");
        }
        // The list of parameters is as long as this says, whoever says it.
        if self.num_hidden_layers > MOST_LAYERS {
            return refuse("num_hidden_layers", self.num_hidden_layers, "at most 1024");
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return refuse("num_key_value_heads", self.num_key_value_heads, "a divisor of `num_attention_heads`");
        }
        Ok(())
    }

    /// Writes `config.json` so that transformers 4 and 5 both read it.
    pub fn to_json(&self) -> Value {
        json!({
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "attention_dropout": 0.0,
            "bos_token_id": self.bos_token_id,
            "dtype": "float32",
            "eos_token_id": self.eos_token_id,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": self.initializer_range,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "max_window_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_parameters": {"rope_theta": self.rope_theta, "rope_type": "default"},
            "rope_theta": self.rope_theta,
            "sliding_window": null,
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": "float32",
            "use_cache": true,
            "use_sliding_window": false,
            "vocab_size": self.vocab_size,
        })
    }

    /// Names and shapes of all parameters, as Hugging Face spells them, sorted by name.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let keys = self.num_key_value_heads * self.head_dim();
        let mut parameters = vec![
            ("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, hidden]),
            ("model.norm.weight".to_owned(), vec![hidden]),
        ];
        if !self.tie_word_embeddings {
            parameters.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        for layer in 0..self.num_hidden_layers {
            let of_layer = [
                ("input_layernorm.weight", vec![hidden]),
                ("self_attn.q_proj.weight", vec![hidden, hidden]),
                ("self_attn.q_proj.bias", vec![hidden]),
                ("self_attn.k_proj.weight", vec![keys, hidden]),
                ("self_attn.k_proj.bias", vec![keys]),
                ("self_attn.v_proj.weight", vec![keys, hidden]),
                ("self_attn.v_proj.bias", vec![keys]),
                ("self_attn.o_proj.weight", vec![hidden, hidden]),
                ("post_attention_layernorm.weight", vec![hidden]),
                ("mlp.gate_proj.weight", vec![inner, hidden]),
                ("mlp.up_proj.weight", vec![inner, hidden]),
                ("mlp.down_proj.weight", vec![hidden, inner]),
            ];
            parameters.extend(of_layer.map(|(name, shape)| (format!("model.layers.{layer}.{name}"), shape)));
        }
        parameters.sort();
        parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Value {
        json!({"model_type": "qwen2", "vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64, "rms_norm_eps": 1e-6})
    }

    #[test]
    fn both_dialects_give_the_same_shape_and_our_own_file_reads_back() {
        let (mut old, mut new) = (config(), config());
        old["rope_theta"] = json!(1e6);
        new["rope_parameters"] = json!({"rope_theta": 1e6, "rope_type": "default"});
        let shape = Shape::from_json(&old).unwrap();
        assert_eq!(Shape::from_json(&new).unwrap(), shape);
        assert_eq!(Shape::from_json(&shape.to_json()).unwrap(), shape);
    }

    #[test]
    fn what_is_missing_or_unsupported_is_named() {
        let error = Shape::from_json(&config()).unwrap_err();
        assert_eq!(error.to_string(), "`rope_theta` is missing or not a number");
        let mut other = config();
        other["model_type"] = json!("llama");
        assert_eq!(
            Shape::from_json(&other).unwrap_err().to_string(),
            "`model_type` is \"llama\", supported: \"qwen2\""
        );
        let mut tower = json!({"rope_theta": 1e6, "num_hidden_layers": 1025});
        config().as_object().unwrap().iter().for_each(|(key, value)| {
            tower.as_object_mut().unwrap().entry(key).or_insert(value.clone());
        });
        let error = Shape::from_json(&tower).unwrap_err().to_string();
        assert!(error.contains("`num_hidden_layers`") && error.contains("at most 1024"), "{error}");
        let mut scaled = config();
        scaled["rope_parameters"] = json!({"rope_theta": 1e6, "rope_type": "yarn"});
        assert!(Shape::from_json(&scaled).unwrap_err().to_string().contains("yarn"));
    }
}
