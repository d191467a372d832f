"""Solutions of lesson 19, and mistakes that its checks must find."""


def parameters(config):
    E, queries = config.hidden_size, config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    block = 2 * E * queries + 2 * E * keys + 3 * E * config.intermediate_size + 4 * E
    return config.vocab_size * E + config.num_hidden_layers * block + E


def parameters__counts_the_head_by_itself(config):
    return parameters(config) + config.vocab_size * config.hidden_size


def parameters__gives_every_query_its_own_key(config):
    more = 2 * config.hidden_size * (config.num_attention_heads - config.num_key_value_heads) * config.head_dim
    return parameters(config) + config.num_hidden_layers * more


def parameters__has_two_norms(config):
    return parameters(config) - 2 * config.hidden_size * config.num_hidden_layers


def cache_bytes(config, tokens, bytes_each=2):
    token = 2 * config.num_key_value_heads * config.head_dim * bytes_each
    window = {"sliding_attention": config.sliding_window, "full_attention": tokens}
    return sum(min(tokens, window[kind]) * token for kind in config.layer_types)


def cache_bytes__keeps_everything_everywhere(config, tokens, bytes_each=2):
    return len(config.layer_types) * tokens * 2 * config.num_key_value_heads * config.head_dim * bytes_each


def cache_bytes__fills_the_window_at_once(config, tokens, bytes_each=2):
    token = 2 * config.num_key_value_heads * config.head_dim * bytes_each
    window = {"sliding_attention": config.sliding_window, "full_attention": tokens}
    return sum(window[kind] * token for kind in config.layer_types)


def cache_bytes__forgets_the_values(config, tokens, bytes_each=2):
    return cache_bytes(config, tokens, bytes_each) // 2


def cache_bytes__counts_query_heads(config, tokens, bytes_each=2):
    return cache_bytes(config, tokens, bytes_each) * config.num_attention_heads // config.num_key_value_heads


def training_bytes(frozen, trained):
    return 2 * frozen + 4 * 4 * trained


def training_bytes__trains_the_frozen_too(frozen, trained):
    return 2 * frozen + 4 * 4 * (frozen + trained)


def training_bytes__forgets_the_gradient(frozen, trained):
    return 2 * frozen + 3 * 4 * trained


def training_bytes__keeps_the_trained_in_bf16(frozen, trained):
    return 2 * frozen + 4 * 2 * trained
