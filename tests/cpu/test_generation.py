"""Generation: the same tokens as transformers' own, from programs whose cache and position are data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import transformers
from torch import Tensor, nn

import tamago
from tamago.compiler.errors import TamagoError
from tamago.compiler.generation.alias import KEY, aliases, record_aliases
from tamago.compiler.generation.language_model import CausalLanguageModel
from tamago.compiler.store import Store

TOKENS: dict[str, Any] = {"vocab_size": 100, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
LLAMA: dict[str, Any] = {
    **TOKENS,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
ONE_LAYER: dict[str, Any] = {**LLAMA, "num_hidden_layers": 1}
BUCKETS = (4, 12)
SLOTS = 32


def llama(**settings: Any) -> Any:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**LLAMA, **settings})).eval()


def qwen2() -> Any:
    torch.manual_seed(1)
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**ONE_LAYER)).eval()


def mistral() -> Any:
    torch.manual_seed(2)
    return transformers.MistralForCausalLM(transformers.MistralConfig(**ONE_LAYER, sliding_window=6)).eval()


def gpt2() -> Any:
    torch.manual_seed(3)
    config = transformers.GPT2Config(**TOKENS, n_embd=64, n_layer=2, n_head=4, n_positions=64)
    return transformers.GPT2LMHeadModel(config).eval()


def compiled(model: Any, **settings: Any) -> CausalLanguageModel:
    wanted: dict[str, Any] = {
        "max_length": SLOTS,
        "prompt_lengths": BUCKETS,
        "threads": 1,
        "measure": False,
        **settings,
    }
    return tamago.compile_causal_lm(model, **wanted)


def expect(code: str) -> Any:
    return pytest.raises(TamagoError, match=rf"^error\[{code}\]")


def prompts(batch: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(2, 100, (batch, length), generator=torch.Generator().manual_seed(seed))


def original(model: Any, prompt: Tensor, new: int, **settings: Any) -> Tensor:
    """What the model itself generates, greedily."""
    return model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=new, **settings
    )


def logits_after(model: Any, text: Tensor) -> Tensor:
    with torch.no_grad():
        return model(text, use_cache=False).logits[:, -1]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Store.open(tmp_path_factory.mktemp("generation") / "store.db") as opened:
        yield opened


@pytest.fixture(scope="module")
def pair(store: Store) -> tuple[Any, CausalLanguageModel]:
    """A Llama of two heads of keys for four of queries, and its programs."""
    model = llama()
    return model, compiled(model, store=store)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 12])  # also just what a bucket holds, and one more
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_llama_generates_the_same_tokens(pair: tuple[Any, CausalLanguageModel], length: int, seed: int) -> None:
    model, fast = pair
    prompt = prompts(1, length, seed)

    found = fast.generate(prompt, max_new_tokens=SLOTS - length)

    wanted = original(model, prompt, SLOTS - length)
    assert found.dtype == torch.int64
    assert torch.equal(found, wanted)
    assert len(set(found[0, length:].tolist())) > 3  # not one token over and over, which any cache would give


@pytest.fixture(scope="module")
def two(store: Store) -> tuple[Any, CausalLanguageModel]:
    """A GPT-2, which has a table of its positions, for two texts side by side."""
    model = gpt2()
    return model, compiled(model, batch=2, prompt_lengths=(8,), store=store)


@pytest.mark.parametrize("length", [2, 8])
def test_two_texts_are_generated_side_by_side(two: tuple[Any, CausalLanguageModel], length: int) -> None:
    model, fast = two
    prompt = prompts(2, length)

    assert torch.equal(fast.generate(prompt, max_new_tokens=20), original(model, prompt, 20))


@pytest.mark.parametrize("make", [qwen2, mistral])
def test_other_models_generate_the_same_tokens(make: Callable[[], Any], store: Store) -> None:
    """Biases on the keys; a window of six tokens."""
    model = make()
    fast = compiled(model, prompt_lengths=(8,), store=store)

    for length in (2, 8):
        prompt = prompts(1, length)
        assert torch.equal(fast.generate(prompt, max_new_tokens=20), original(model, prompt, 20))


def test_the_original_would_notice_another_text(pair: tuple[Any, CausalLanguageModel]) -> None:
    model, fast = pair
    prompt = prompts(1, 5)

    assert not torch.equal(fast.generate(prompt, max_new_tokens=20), original(model, prompts(1, 5, 1), 20))


def test_a_text_ends_where_the_original_ends(pair: tuple[Any, CausalLanguageModel]) -> None:
    model, fast = pair
    prompt = prompts(1, 5)
    text = fast.generate(prompt, max_new_tokens=20, eos_token_id=())
    end = int(text[0, 10])

    found = fast.generate(prompt, max_new_tokens=20, eos_token_id=end)

    assert torch.equal(found, original(model, prompt, 20, eos_token_id=end))
    assert found.shape[1] < text.shape[1] == 25
    assert torch.equal(fast.generate(prompt, max_new_tokens=20, eos_token_id=[end, 99]), found)


def test_texts_that_ended_wait_for_the_others(two: tuple[Any, CausalLanguageModel]) -> None:
    model, fast = two
    prompt = prompts(2, 4)
    text = fast.generate(prompt, max_new_tokens=12, eos_token_id=())
    end = next(int(token) for token in text[0, 4:] if token not in text[1])

    found = fast.generate(prompt, max_new_tokens=12, eos_token_id=end)

    assert torch.equal(found, original(model, prompt, 12, eos_token_id=end))
    assert found[0, -1] == TOKENS["pad_token_id"]


def test_the_position_is_an_input_of_the_step(pair: tuple[Any, CausalLanguageModel]) -> None:
    model, fast = pair
    text = prompts(1, 10)
    cache = fast.prefill[12](nn.functional.pad(text, (0, 2)), torch.tensor([0]), torch.tensor([9]), *empty(fast))[1:]
    token = torch.tensor([[7]])

    early, late = (fast.step(token, torch.tensor([place]), *cache)[0] for place in (4, 10))

    torch.testing.assert_close(early, logits_after(model, torch.cat([text[:, :4], token], 1)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(late, logits_after(model, torch.cat([text, token], 1)), rtol=1e-4, atol=1e-5)
    assert (early - late).abs().max() > 1e-3


def empty(fast: CausalLanguageModel) -> list[Tensor]:
    return fast.layout.empty()


def test_padding_changes_nothing(pair: tuple[Any, CausalLanguageModel]) -> None:
    _, fast = pair
    text, start = prompts(1, 12), torch.tensor([0])
    other = torch.cat([text[:, :6], prompts(1, 6, 1)], 1)

    def after(padded: Tensor, last: int) -> Tensor:
        return fast.prefill[12](padded, start, torch.tensor([last]), *empty(fast))[0]

    assert torch.equal(after(text, 5), after(other, 5))
    assert not torch.equal(after(text, 6), after(other, 6))


def test_the_step_sees_what_is_before_it_and_nothing_else(pair: tuple[Any, CausalLanguageModel]) -> None:
    _, fast = pair
    text, token, place = prompts(1, 12), torch.tensor([[7]]), torch.tensor([8])
    _, *cache = fast.prefill[12](text, torch.tensor([0]), torch.tensor([7]), *empty(fast))

    def with_noise_from(slot: int) -> Tensor:
        noisy = [state.clone() for state in cache]
        for state in noisy:
            state[:, :, slot:] = 50 * torch.randn_like(state[:, :, slot:])
        return fast.step(token, place, *noisy)[0]

    wanted = fast.step(token, place, *cache)[0]
    assert torch.equal(with_noise_from(8), wanted)
    assert not torch.equal(with_noise_from(7), wanted)


def test_names_and_shapes_are_those_of_a_cache(pair: tuple[Any, CausalLanguageModel]) -> None:
    _, fast = pair
    states = ["key.0", "value.0", "key.1", "value.1"]

    step, prefill = fast.step.graph.graph, fast.prefill[4].graph.graph

    assert [v.name for v in step.inputs] == ["input_ids", "position", *(f"past_{s}" for s in states)]
    assert [v.name for v in prefill.inputs] == ["input_ids", "position", "last", *(f"past_{s}" for s in states)]
    assert [v.name for v in step.outputs] == [v.name for v in prefill.outputs]
    assert [v.name for v in step.outputs] == ["logits", *(f"present_{s}" for s in states)]
    assert list(step.outputs[0].shape or ()) == [1, 100]
    assert list(step.outputs[1].shape or ()) == [1, 2, SLOTS, 16]


def test_each_state_is_written_by_one_scatter(pair: tuple[Any, CausalLanguageModel]) -> None:
    """What a runtime needs to write in place: no transposition or copy of a state comes between."""
    _, fast = pair
    for program in (fast.step, *fast.prefill.values()):
        inputs = {v.name: v for v in program.graph.graph.inputs}
        for output in program.graph.graph.outputs[1:]:
            producer = output.producer()
            assert producer is not None
            assert producer.op_type == "ScatterElements"
            state = inputs[aliases(program.graph)[output.name or ""]]
            assert producer.inputs[0] is state
            assert len(list(state.uses())) == 1


def test_aliases_survive_saving(pair: tuple[Any, CausalLanguageModel], tmp_path: Path) -> None:
    _, fast = pair
    wanted = {f"present_{s}.{i}": f"past_{s}.{i}" for i in (0, 1) for s in ("key", "value")}
    fast.step.save(tmp_path / "step.onnx")

    found = tamago.load(tmp_path / "step.onnx")

    assert aliases(fast.step.graph) == aliases(fast.prefill[4].graph) == wanted
    assert aliases(found.graph) == wanted
    assert KEY in {entry.key for entry in onnx.load(tmp_path / "step.onnx").metadata_props}


def test_a_state_may_be_written_where_it_was_read(pair: tuple[Any, CausalLanguageModel], tmp_path: Path) -> None:
    """The promise of an alias, kept by ONNX Runtime: the cache never moves, and the tokens are the same."""
    _, fast = pair
    fast.step.save(tmp_path / "step.onnx")
    session = ort.InferenceSession(str(tmp_path / "step.onnx"))
    cache = [state.numpy() for state in empty(fast)]
    arrays = {"input_ids": np.zeros((1, 1), np.int64), "position": np.zeros(1, np.int64)}
    arrays |= dict(zip(fast.layout.names("past"), cache, strict=True))
    values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
    logits = np.empty((1, 100), np.float32)
    binding = session.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    for name, source in aliases(fast.step.graph).items():
        binding.bind_ortvalue_output(name, values[source])
    binding.bind_ortvalue_output("logits", ort.OrtValue.ortvalue_from_numpy(logits))
    text = prompts(1, 6)[0].tolist()

    for place in range(20):
        arrays["input_ids"][:], arrays["position"][:] = text[place], place
        session.run_with_iobinding(binding)
        if place + 1 == len(text):
            text.append(int(logits.argmax()))

    assert text[:20] == fast.generate(prompts(1, 6), max_new_tokens=14, eos_token_id=())[0].tolist()


@pytest.mark.parametrize(
    "text", ["no json", "[1]", '{"logits": 1}', '{"missing": "position"}', '{"logits": "missing"}']
)
def test_a_malformed_table_of_aliases_is_an_error(pair: tuple[Any, CausalLanguageModel], text: str) -> None:
    model = pair[1].step.graph.clone()
    model.metadata_props[KEY] = text

    with expect("G007"):
        aliases(model)


def test_a_model_without_a_table_has_no_aliases(pair: tuple[Any, CausalLanguageModel]) -> None:
    model = pair[1].step.graph.clone()
    del model.metadata_props[KEY]

    assert aliases(model) == {}
    record_aliases(model, {"logits": "position"})
    assert aliases(model) == {"logits": "position"}


def test_what_the_language_model_says_about_itself(pair: tuple[Any, CausalLanguageModel]) -> None:
    _, fast = pair

    speed = fast.measure(new_tokens=8)

    assert speed.prompt_length == 4
    assert speed.prefill_ms > 0
    assert speed.tokens_per_second > 10
    assert all(part in fast.explain() for part in ("prefill of 4 tokens", "prefill of 12 tokens", "step"))
    assert "prompts of 4, 12, max_length 32" in repr(fast)
    assert "attention" in fast.step.explain()
    assert isinstance(fast, tamago.CausalLanguageModel)


def test_what_does_not_fit_is_an_error(pair: tuple[Any, CausalLanguageModel]) -> None:
    _, fast = pair
    with expect("G004"):
        fast.generate(prompts(1, 13), max_new_tokens=1)
    with expect("G005"):
        fast.generate(prompts(1, 12), max_new_tokens=21)
    for wrong in (prompts(2, 4), prompts(1, 4)[0], prompts(1, 4).float(), prompts(1, 0)):
        with expect("G006"):
            fast.generate(wrong, max_new_tokens=4)
    with expect("G006"):
        fast.generate(prompts(1, 4), max_new_tokens=0)
    with expect("G006"):
        fast.measure(new_tokens=1)
    assert fast.generate(prompts(1, 12), max_new_tokens=20, eos_token_id=()).shape == (1, SLOTS)


def masked_model() -> Any:
    config = transformers.BertConfig(vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    return transformers.BertForMaskedLM(config).eval()


def encoder_decoder() -> Any:
    config = transformers.T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return transformers.T5ForConditionalGeneration(config).eval()


@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(2, 2).eval(), lambda: "model.onnx", lambda: llama().model, masked_model, encoder_decoder]
)
def test_only_causal_language_models_are_taken(make: Callable[[], Any]) -> None:
    with expect("G001"):
        compiled(make())


def test_other_states_than_keys_and_values_are_refused() -> None:
    config = transformers.MambaConfig(vocab_size=100, hidden_size=32, num_hidden_layers=1, state_size=4)

    with expect("G002"):
        compiled(transformers.MambaForCausalLM(config).eval())


@pytest.mark.parametrize(
    "sizes",
    [{"batch": 0}, {"max_length": 1}, {"prompt_lengths": ()}, {"prompt_lengths": (0, 4)}, {"prompt_lengths": (33,)}],
)
def test_sizes_that_make_no_sense_are_errors(sizes: dict[str, Any]) -> None:
    with expect("G003"):
        compiled(llama(), **sizes)


def test_the_cache_is_no_longer_than_the_model_has_positions() -> None:
    with expect("G003"):
        compiled(llama(max_position_embeddings=16))


def test_a_model_that_sees_the_empty_slots_is_refused() -> None:
    """Attention to both sides: generation token by token is not what the model computes."""
    with expect("G009"):
        compiled(llama(is_causal=False))


def test_options_are_those_of_compile(pair: tuple[Any, CausalLanguageModel]) -> None:
    with expect("U001"):
        compiled(pair[0], target="abacus")
    with expect("G008"):
        compiled(pair[0], budget=tamago.Budget(rise=0.01), calibration=[])
    with expect("T001"):
        compiled(llama(attention_dropout=0.1).train())
    assert pair[1].step.report.options["threads"] == 1
