"""Group norms with the statistics of a whole canvas, applied to pieces of it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers.each import each
from varsr_core.tiling.group_norm import NormStatistics, own_norm


def layer_of(groups, channels, dtype=torch.float32, eps=1e-6, seed=0):
    """A norm whose weights matter."""
    layer = nn.GroupNorm(groups, channels, eps=eps)
    generator = torch.Generator().manual_seed(seed)
    layer.weight.data = 1 + 0.5 * torch.randn(channels, generator=generator)
    layer.bias.data = torch.randn(channels, generator=generator)
    return layer.to(dtype).requires_grad_(False)


def features(*shape, seed=0, dtype=torch.float32):
    """Channels of different mean and deviation, brighter towards the right."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    x = x * torch.linspace(0.3, 3, shape[1]).view(-1, 1, 1) + torch.linspace(-2, 5, shape[3])
    return (x + torch.linspace(-4, 4, shape[1]).view(-1, 1, 1)).to(dtype)


class Network:
    """Three norms of different sizes, with something between them; no neighbour is looked at."""

    def __init__(self, dtype=torch.float32):
        self.layers = [
            layer_of(4, 16, dtype, 1e-6, 0),
            layer_of(2, 8, dtype, 1e-3, 1),
            layer_of(8, 8, dtype, 1e-6, 2),
        ]
        self.called = []

    def __call__(self, x, norm=own_norm):
        first, second, third = self.layers
        self.called.append(x.shape)
        x = F.silu(norm(first, x))
        x = F.silu(norm(second, x[:, :8] + x[:, 8:]))
        return norm(third, x.repeat_interleave(2, dim=3))


def of(network, x):
    return lambda norm: network(x, norm)


def assert_same_output(found, expected):
    """Of the network: three norms deep, rounding adds up."""
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=1e-5)


def everything(x):
    return x


def parts_of(network, x, widths, context=0):
    """The whole, cut by columns into parts that each see `context` columns more than they count."""
    runs, start, length = [], 0, x.shape[3]
    for width in widths:
        first, last = max(start - context, 0), min(start + width + context, length)
        inside = slice(start - first, start - first + width)

        def crop(part, inside=inside, seen=last - first):
            scale = part.shape[3] // seen
            return part[..., inside.start * scale : inside.stop * scale]

        runs.append((of(network, x[..., first:last]), crop))
        start += width
    assert start == length
    return runs


@each("groups", [1, 2, 4, 16])
@each("shape", [(1, 16, 5, 7), (3, 16, 8, 4)])
@each("eps", [1e-6, 1e-2])
def test_measuring_one_picture_norms_as_the_layer_does(groups, shape, eps):
    layer, x = layer_of(groups, 16, eps=eps), features(*shape)[:1]
    statistics = NormStatistics.measure(lambda norm: norm(layer, x))
    torch.testing.assert_close(statistics.norm()(layer, x), layer(x), atol=1e-5, rtol=1e-5)


def test_statistics_are_used_while_they_are_measured():
    network, x = Network(), features(1, 16, 6, 9)
    found = []
    NormStatistics.measure(lambda norm: found.append(network(x, norm)))
    assert_same_output(found[0], network(x))
    assert len(network.called) == 2  # measured in a single run


def test_a_network_normed_by_its_own_statistics_gives_the_same():
    network, x = Network(), features(1, 16, 6, 9)
    statistics = NormStatistics.measure(of(network, x))
    assert_same_output(network(x, statistics.norm()), network(x))


def test_layers_are_known_by_the_order_in_which_they_are_called():
    network, x = Network(), features(1, 16, 6, 9)
    statistics = NormStatistics.measure(of(network, x))
    assert [len(layer.mean) for layer in statistics.layers] == [16, 8, 8]
    assert [layer.eps for layer in statistics.layers] == [1e-6, 1e-3, 1e-6]
    for layer, measured in zip(network.layers, statistics.layers, strict=True):
        torch.testing.assert_close(measured.weight, layer.weight, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(measured.bias, layer.bias, atol=1e-5, rtol=1e-5)


def test_a_layer_called_twice_has_statistics_of_each_call():
    layer = layer_of(4, 16)
    first, second = features(1, 16, 4, 4), 3 * features(1, 16, 4, 4, seed=1) - 7

    def run(norm):
        return norm(layer, first), norm(layer, second)

    again = run(NormStatistics.measure(run).norm())
    torch.testing.assert_close(again[0], layer(first), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again[1], layer(second), atol=1e-5, rtol=1e-5)


def test_a_norm_serves_one_run_and_statistics_serve_many():
    network, x = Network(), features(1, 16, 6, 9)
    statistics = NormStatistics.measure(of(network, x))
    expected = network(x, statistics.norm())
    for _ in range(3):
        assert torch.equal(network(x, statistics.norm()), expected)
    left, right = statistics.norm(), statistics.norm()  # neither uses the other up
    assert torch.equal(network(x, left), network(x, right))


def test_statistics_belong_to_what_was_measured_and_not_to_what_is_normed():
    """A piece is normed as it would be within its canvas, where no position looks at another."""
    network, x = Network(), features(1, 16, 6, 12)
    statistics = NormStatistics.measure(of(network, x))
    piece = network(x[..., 4:9], statistics.norm())
    assert_same_output(piece, network(x)[..., 8:18])
    assert (network(x[..., 4:9]) - piece).abs().max() > 0.1


def test_samples_measured_together_count_as_one():
    network, x = Network(), features(1, 16, 6, 12)
    together = NormStatistics.measure(of(network, torch.cat((x[..., :6], x[..., 6:]))))
    assert_same_output(network(x, together.norm()), network(x))


@each("widths", [[12], [6, 6], [1, 2, 9], [3, 3, 3, 3]])
@each("context", [0, 2])
def test_parts_measured_apart_equal_the_whole(widths, context):
    network, x = Network(), features(2, 16, 6, 12)
    apart = NormStatistics.measure_apart(parts_of(network, x, widths, context))
    whole = NormStatistics.measure(of(network, x))
    assert len(apart.layers) == len(whole.layers) == 3
    for found, expected in zip(apart.layers, whole.layers, strict=True):
        for name in ("mean", "variance", "weight", "bias"):
            ours, theirs = getattr(found, name), getattr(expected, name)
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert_same_output(network(x, apart.norm()), network(x, whole.norm()))


def test_parts_measured_apart_never_run_together():
    network, x = Network(), features(1, 16, 6, 12)
    NormStatistics.measure_apart(parts_of(network, x, [5, 7]))
    assert {shape[3] for shape in network.called} == {5, 7}
    assert len(network.called) == 3 * 2 + 1  # each layer over both, then one to see the end


def test_a_network_without_norms_has_no_statistics():
    assert NormStatistics.measure(lambda norm: None).layers == []
    assert NormStatistics.measure_apart([(lambda norm: None, everything)]).layers == []


def test_an_error_of_the_network_passes_through_both_ways_of_measuring():
    def run(norm):
        raise ValueError("shapes do not fit")

    with pytest.raises(ValueError, match="shapes do not fit"):
        NormStatistics.measure(run)
    with pytest.raises(ValueError, match="shapes do not fit"):
        NormStatistics.measure_apart([(run, everything)])


@each("offset", [0.0, 300.0])
def test_variance_survives_a_large_mean(offset):
    layer, x = layer_of(4, 16), features(1, 16, 32, 32) + offset
    runs = [(lambda norm, part=part: norm(layer, part), everything) for part in x.chunk(4, dim=3)]
    for statistics in (
        NormStatistics.measure(lambda norm: norm(layer, x)),
        NormStatistics.measure_apart(runs),
    ):
        # Around 300, a float32 input itself has 3e-5 of resolution.
        torch.testing.assert_close(statistics.norm()(layer, x), layer(x), atol=1e-4, rtol=1e-5)


def test_even_features_are_normed_to_the_bias():
    layer, x = layer_of(4, 16), torch.full((1, 16, 4, 4), 3.7)
    for statistics in (
        NormStatistics.measure(lambda norm: norm(layer, x)),
        NormStatistics.measure_apart([(lambda norm: norm(layer, x), everything)] * 2),
    ):
        found = statistics.norm()(layer, x)
        expected = layer.bias.view(1, 16, 1, 1).expand_as(found)
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


# Half precision, and layers whose weights are elsewhere


def test_half_precision_is_kept_and_measured_as_the_layer_would():
    layer, x = layer_of(4, 16, torch.bfloat16), features(1, 16, 16, 16, dtype=torch.bfloat16)
    exact = layer_of(4, 16)(x.float())
    statistics = NormStatistics.measure(lambda norm: norm(layer, x))
    found = statistics.norm()(layer, x)
    assert found.dtype == torch.bfloat16
    assert statistics.layers[0].mean.dtype == statistics.layers[0].weight.dtype == torch.float32
    # Weights and results of about 4 have 8 bits; the layer itself errs as much.
    torch.testing.assert_close(found.float(), exact, atol=0.05, rtol=2**-7)
    torch.testing.assert_close(found, layer(x), atol=0.05, rtol=2**-7)


def test_parts_in_half_precision_measured_apart_equal_the_whole():
    network, x = Network(torch.bfloat16), features(1, 16, 6, 12, dtype=torch.bfloat16)
    apart = NormStatistics.measure_apart(parts_of(network, x, [5, 7]))
    whole = NormStatistics.measure(of(network, x))
    for found, expected in zip(apart.layers, whole.layers, strict=True):
        torch.testing.assert_close(found.mean, expected.mean, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.variance, expected.variance, atol=1e-5, rtol=1e-5)


class Offloaded(nn.Module):
    """A norm as hosts make them: its weights exist only while it is called."""

    def __init__(self, layer):
        super().__init__()
        self.num_groups, self.num_channels, self.eps = (
            layer.num_groups,
            layer.num_channels,
            layer.eps,
        )
        stored = [(tensor * 64).tolist() for tensor in (layer.weight, layer.bias)]
        self.load = lambda x: [x.new_tensor(values) / 64 for values in stored]

    def forward(self, x):
        return F.group_norm(x, self.num_groups, *self.load(x), self.eps)


@each("eps", [1e-6, 1e-1])
def test_weights_are_read_off_what_the_layer_does(eps):
    layer, x = layer_of(4, 16, eps=eps), features(1, 16, 6, 9)
    offloaded = Offloaded(layer)
    assert not hasattr(offloaded, "weight")
    for statistics in (
        NormStatistics.measure(lambda norm: norm(offloaded, x)),
        NormStatistics.measure_apart([(lambda norm: norm(offloaded, x), everything)]),
    ):
        measured = statistics.layers[0]
        torch.testing.assert_close(measured.weight, layer.weight, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(measured.bias, layer.bias, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(statistics.norm()(offloaded, x), layer(x), atol=1e-5, rtol=1e-5)


def test_a_layer_without_weights_is_normed_plainly():
    layer, x = nn.GroupNorm(4, 16, affine=False), features(1, 16, 6, 9)
    statistics = NormStatistics.measure(lambda norm: norm(layer, x))
    torch.testing.assert_close(statistics.norm()(layer, x), layer(x), atol=1e-5, rtol=1e-5)


def test_own_norm_is_the_layer_itself():
    layer, x = layer_of(4, 16), features(1, 16, 6, 9)
    assert torch.equal(own_norm(layer, x), layer(x))
