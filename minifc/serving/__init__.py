"""In others' hands: a server that speaks OpenAI's protocol."""
