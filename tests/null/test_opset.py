from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import defs, parser

from tamago.compiler.opset import LOWEST, TARGET, expressible, same_meaning, steps, to_target
from tamago.compiler.opsets.kernels import LOST
from tamago.compiler.opsets.rewrites import REWRITES
from tamago.compiler.opsets.unchanged import UNCHANGED

NEWEST = 26  # the table's end

Schema = defs.OpSchema


def _history() -> dict[str, list[Schema]]:
    found: dict[str, list[Schema]] = {}
    for schema in defs.get_all_schemas_with_history():
        if not schema.domain:
            found.setdefault(schema.name, []).append(schema)
    return {op: sorted(schemas, key=lambda s: s.since_version) for op, schemas in found.items()}


def _pairs() -> list[tuple[Schema, Schema]]:
    """Every version of every operator in the table's range, with the version before it."""
    pairs = [p for schemas in _history().values() for p in pairwise(schemas)]
    return [(old, new) for old, new in pairs if 7 < new.since_version <= NEWEST]


def _key(schema: Schema) -> tuple[str, int]:
    return schema.name, schema.since_version


def model_of(text: str, opset: int, functions: str = "") -> ir.Model:
    imports = f'"": {opset}' + (', "own": 1' if functions else "")
    return ir.from_proto(parser.parse_model(f"<ir_version: 8, opset_import: [{imports}]> test {text} {functions}"))


def op_types(graph: ir.Graph) -> list[str]:
    return [node.op_type for node in graph]


def test_the_table_has_every_step_once() -> None:
    wanted = {_key(new) for _, new in _pairs()}

    assert set(UNCHANGED) | set(REWRITES) == wanted | {("Dropout", 10)}
    assert set(UNCHANGED) & set(REWRITES) == set()
    assert set(LOST) <= set(UNCHANGED)


# T2 was the output's type, which is now called T3.
RENAMED_TYPES = {("QuantizeLinear", 23)}


@pytest.mark.parametrize(
    ("old", "new"), [pytest.param(o, n, id=f"{n.name}-{n.since_version}") for o, n in _pairs() if _key(n) in UNCHANGED]
)
def test_an_unchanged_step_takes_every_node_of_before(old: Schema, new: Schema) -> None:
    """The new signature extends the old one: same inputs first, same attributes and defaults, no type lost."""
    for before, after in zip(old.inputs, new.inputs, strict=False):
        looser = after.option in (before.option, Schema.FormalParameterOption.Optional)
        assert looser, before.name
    assert len(new.inputs) >= len(old.inputs)
    assert all(i.option == Schema.FormalParameterOption.Optional for i in new.inputs[len(old.inputs) :])
    assert len(new.outputs) >= len(old.outputs)

    for name, attribute in old.attributes.items():
        assert new.attributes[name].type == attribute.type, name
        assert new.attributes[name].default_value == attribute.default_value, name
    assert not [n for n, a in new.attributes.items() if a.required and n not in old.attributes]

    if _key(new) in RENAMED_TYPES:
        return
    types = {c.type_param_str: set(c.allowed_type_strs) for c in new.type_constraints}
    for constraint in old.type_constraints:
        if constraint.type_param_str in types:
            assert set(constraint.allowed_type_strs) <= types[constraint.type_param_str]


def test_same_meaning() -> None:
    assert same_meaning("Relu", 7)
    assert same_meaning("Reshape", 14)
    assert same_meaning("Conv", 11, 25)
    assert same_meaning("Cast", 25)
    assert same_meaning("AveragePool", 18)  # not converted for its kernel, but it means the same
    assert same_meaning("LayerNormalization", 11)
    assert same_meaning("com.microsoft::Gelu", 1)
    assert not same_meaning("Squeeze", 12)
    assert not same_meaning("ReduceMean", 17)
    assert same_meaning("ReduceMean", 18)
    assert not same_meaning("Gelu", 18)  # does not exist there
    assert not same_meaning("NoSuchOperator", 18)


def test_what_can_be_written_at_an_opset() -> None:
    assert expressible("Reshape", ["allowzero"], 14)
    assert not expressible("Reshape", ["allowzero"], 13)
    assert expressible("Reshape", [], 13)
    assert expressible("Relu", [], 7)
    assert expressible("com.microsoft::FusedMatMul", ["alpha"], 7)
    assert not expressible("Gelu", ["approximate"], 19)


def test_steps_leave_out_the_first_version() -> None:
    assert steps("Gelu", 7, 26) == ()
    assert steps("Squeeze", 11, 23) == (13, 21, 23)
    assert steps("Squeeze", 13, 23) == (21, 23)


def test_attributes_become_constants_with_clear_names() -> None:
    model = model_of("(float[2,1,3] x) => (float[2,3] y) { y = Squeeze <axes = [1]> (x) }", 11)
    node = next(iter(model.graph))
    node.name = "squeeze"
    node.metadata_props["source"] = "layer 3"
    node.outputs[0].metadata_props["kept"] = "yes"

    assert to_target(model) == []

    assert model.opset_imports[""] == TARGET
    assert model.ir_version >= 11
    assert next(iter(model.graph)) is node
    assert (node.name, node.metadata_props["source"]) == ("squeeze", "layer 3")
    assert (node.outputs[0].name, node.outputs[0].metadata_props["kept"]) == ("y", "yes")
    axes = node.inputs[1]
    assert axes is not None
    assert axes.const_value is not None
    assert axes.name == "squeeze/axes"
    assert axes.const_value.numpy().tolist() == [1]
    assert not node.attributes


def test_the_output_of_a_softmax_over_a_matrix_keeps_its_name() -> None:
    model = model_of("(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax (x) }", 11)
    model.graph.outputs[0].metadata_props["kept"] = "yes"

    to_target(model)

    assert op_types(model.graph) == ["Flatten", "Softmax", "Reshape"]
    assert [v.name for v in model.graph.outputs] == ["y"]
    assert model.graph.outputs[0].metadata_props["kept"] == "yes"
    assert model.graph.outputs[0].producer() is list(model.graph)[-1]
    assert next(iter(model.graph)).metadata_props["tamago.rule"] == "to opset 13"


@pytest.mark.parametrize(
    ("shape", "axis", "wanted"),
    [
        ("2,3", "", ("Softmax", -1)),
        ("2,3,4", " <axis = 2>", ("Softmax", -1)),
        ("2,n,1", "", ("Softmax", 1)),
        ("n,m", "", ("Softmax", -1)),
    ],
)
def test_a_softmax_over_one_axis_stays_alone(shape: str, axis: str, wanted: tuple[str, int]) -> None:
    model = model_of(f"(float[{shape}] x) => (float[{shape}] y) {{ y = Softmax{axis} (x) }}", 9)

    to_target(model)

    assert op_types(model.graph) == [wanted[0]]
    assert next(iter(model.graph)).attributes["axis"].value == wanted[1]


def test_a_softmax_of_half_precision_is_computed_in_single() -> None:
    model = model_of("(float16[2,3] x) => (float16[2,3] y) { y = Softmax (x) }", 9)

    to_target(model)

    assert op_types(model.graph) == ["Cast", "Softmax", "Cast"]
    assert list(model.graph)[1].outputs[0].dtype == ir.DataType.FLOAT
    assert model.graph.outputs[0].dtype == ir.DataType.FLOAT16


def test_bounds_of_a_clip_have_the_type_of_the_data() -> None:
    model = model_of(
        "(float16[3] x, double[3] d) => (float16[3] y, double[3] z) { y = Clip <min = 0.0> (x) z = Clip (d) }", 9
    )

    to_target(model)

    half, double = list(model.graph)
    bounds = [v.const_value.numpy() for v in (*half.inputs[1:], *double.inputs[1:]) if v is not None and v.const_value]
    assert [b.dtype for b in bounds] == [np.float16, np.float16, np.float64, np.float64]
    assert bounds[0] == 0
    assert np.isposinf(bounds[1])  # 3.4e38 does not bind any number of half precision
    assert bounds[3] == np.finfo(np.float32).max


def test_bounds_of_a_clip_of_unknown_type_are_cast() -> None:
    model = model_of("(x) => (y) { y = Clip <max = 6.0> (x) }", 9)

    to_target(model)

    assert op_types(model.graph) == ["CastLike", "CastLike", "Clip"]


def test_bodies_are_converted_and_hold_their_own_constants() -> None:
    model = model_of(
        "(bool c, float[1,3] x) => (float[?] y) { y = If (c) <"
        "then_branch = a () => (float[?] p) { p = Squeeze <axes = [0]> (x) }, "
        "else_branch = b () => (float[?] q) { q = ReduceSum <axes = [0], keepdims = 0> (x) }> }",
        11,
    )

    assert to_target(model) == []

    branches = [a.as_graph() for a in next(iter(model.graph)).attributes.values()]
    assert [len(b.initializers) for b in branches] == [1, 1]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_a_function_is_converted_with_constant_nodes() -> None:
    function = '<domain: "own", opset_import: ["": 11]> f (a) => (b) { b = Squeeze <axes = [0]> (a) }'
    model = model_of("(float[1,3] x) => (float[3] y) { y = own.f (x) }", 11, function)

    assert to_target(model) == []

    (converted,) = model.functions.values()
    assert converted.opset_imports[""] == TARGET
    assert [n.op_type for n in converted] == ["Constant", "Squeeze"]
    onnx.checker.check_model(ir.to_proto(model))


def test_a_function_whose_attribute_is_a_parameter_stops_the_model() -> None:
    function = '<domain: "own", opset_import: ["": 11]> f <ax> (a) => (b) { b = Squeeze <axes: ints = @ax> (a) }'
    model = model_of("(float[1,3] x) => (float[3] y) { y = own.f <ax = [0]> (x) }", 11, function)

    (stopped, kept) = to_target(model)

    assert "parameter of a function" in stopped
    assert kept == "the model keeps its opset 11"
    assert model.opset_imports[""] == 11


def test_one_node_without_a_way_keeps_the_whole_model() -> None:
    text = (
        "(float[1,2,3] x) => (float[2,3] y, bool[2,3] m) "
        "{ s = Squeeze <axes = [0]> (x) [drop] y, m = Dropout <ratio = 0.5> (s) }"
    )
    model = model_of(text, 11)
    before = [(n.op_type, sorted(n.attributes), len(n.inputs)) for n in model.graph]

    notes = to_target(model)

    assert [(n.op_type, sorted(n.attributes), len(n.inputs)) for n in model.graph] == before
    assert not model.graph.initializers
    assert model.opset_imports[""] == 11
    assert notes[0].startswith("Dropout drop stays below opset 12")


def test_an_operator_that_onnx_does_not_know_keeps_the_model() -> None:
    model = model_of("(float[3] x) => (float[3] y) { y = Affine <alpha = 2.0> (x) }", 9)

    assert "Affine y stays below opset 10" in to_target(model)[0]
    assert model.opset_imports[""] == 9


def test_a_lost_kernel_stops_the_model_where_it_is_still_fast() -> None:
    text = "(float[1,2,4,4] x) => (float[1,2,4,4] y) { p = AveragePool <kernel_shape = [1, 1]> (x) y = Relu (p) }"
    model = model_of(text, 11)

    assert to_target(model)[-1] == "the model was brought from opset 11 to 18, not to 23"
    assert model.opset_imports[""] == LOWEST


def test_old_and_new_models_are_left_alone() -> None:
    text = "(float[3] x) => (float[3] y) { y = Relu (x) }"
    for opset in (6, 24):
        model = model_of(text, opset)
        assert len(to_target(model)) == 1
        assert model.opset_imports[""] == opset


def test_other_domains_are_left_alone() -> None:
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 12, "com.microsoft": 1]> '
        "test (float[3] x) => (float[3] y) { g = com.microsoft.Gelu (x) y = Relu (g) }"
    )
    model = ir.from_proto(proto)

    assert to_target(model) == []
    assert dict(model.opset_imports) == {"": TARGET, "com.microsoft": 1}


def test_new_names_do_not_meet_old_ones() -> None:
    model = model_of(
        "(float[2,1,3] x) => (float[2,3] y) <float[1] sq_axes = {1.0}> { y = Squeeze <axes = [1]> (x) }", 11
    )
    node = next(iter(model.graph))
    node.name = "sq"
    next(iter(model.graph.initializers.values())).name = "sq/axes"

    to_target(model)

    axes = node.inputs[1]
    assert axes is not None
    assert axes.name == "sq/axes_1"


def test_many_nodes_that_stop_a_model_for_one_reason_are_one_note() -> None:
    pools = " ".join(f"a{i + 1} = AveragePool <kernel_shape = [1, 1]> (a{i})" for i in range(5))
    model = model_of(f"(float[1,2,3,4] a0) => (float[1,2,3,4] a5) {{ {pools} }}", 18)

    stopped, *rest = to_target(model)

    assert "and 4 more stay below opset 19" in stopped
    assert len(rest) == 1
