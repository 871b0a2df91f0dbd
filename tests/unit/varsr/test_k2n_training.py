"""K2N in training: its losses, what learns, that it learns, and that its file fits its nodes."""

import copy
import dataclasses
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from helpers.k2n_training import (
    SIZES,
    TILE,
    telling_varsr,
    tiles,
    write_pictures,
    write_varsr,
)
from helpers.threads import one_thread
from helpers.training import broken_off, settings
from varsr_core.checkpoint import load_checkpoint, save_checkpoint
from varsr_core.errors import InputError
from varsr_core.images.resize import resize
from varsr_core.runtime.execution import Execution
from varsr_core.training.config import TrainingConfig, from_plain, read_config
from varsr_core.training.data.small_pairs import SmallPairBatch
from varsr_core.training.loop import Loop
from varsr_core.training.map_networks import dropping
from varsr_core.training.run import MODEL_FILE, Training
from varsr_core.varsr.k2n.coarse import Coarse
from varsr_core.varsr.k2n.kind import K2N_KIND
from varsr_core.varsr.k2n.stages import predict_tokens
from varsr_core.varsr.k2n.training.kind import K2NLoss, K2NTraining, map_losses
from varsr_core.varsr.k2n.training.pair import (
    FrozenTokenizer,
    K2NSizes,
    TrainedPair,
    checkpoint,
    new_network,
)

QUARTER = TILE // 4
LEARNS = re.compile(
    r"encoder\.(conv_in|down\.0)\..*|encoder\..*\bnorm(1|2|_out)?\.(weight|bias)"
    r"|maps\..*|(input|feature)_scale\.weight"
)


@pytest.fixture(scope="module", autouse=True)
def _alone():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_varsr(tmp_path_factory.mktemp("base") / "varsr.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("data") / "pictures", tiles()[:2])


def new_pair(seed=0):
    tokenizer = FrozenTokenizer(telling_varsr())
    return TrainedPair(
        new_network(from_plain(K2NSizes, SIZES, "sizes"), tokenizer, seed), tokenizer
    )


def config(steps=3, **others):
    stage = {"steps": steps, "batch": 1, "learning_rate": 1e-3, "autocast": False}
    return TrainingConfig(
        model="k2n", sizes=SIZES, model_settings={"maps": {**stage, "weight_decay": 0.0}}, **others
    )


def loaded(path):
    """As Load K2N Model does."""
    return load_checkpoint([path], K2N_KIND)


def test_losses_are_those_of_the_public_code():
    """Written once more, token by token."""
    random = torch.Generator().manual_seed(0)
    sides, codebook = (1, 2, 3), torch.randn(7, 5, generator=random)
    maps = [2 * torch.randn(2, side**2, 5, generator=random) for side in sides]
    ids = [torch.randint(7, (2, side**2), generator=random) for side in sides]
    targets = [codebook[one] for one in ids]
    found = map_losses(maps, targets, ids, codebook, K2NTraining())

    def smooth(a, b):
        d = (a - b).abs()
        return torch.where(d < 1, d * d / 2, d - 0.5).mean()

    def together(parts):
        squares = [x.transpose(1, 2).reshape(2, 5, s, s) for x, s in zip(parts, sides, strict=True)]
        grown = [F.interpolate(x, (3, 3), mode="bilinear", align_corners=False) for x in squares]
        return grown[0] + grown[1] + grown[2]

    codes = []
    for tokens, wanted in zip(maps, ids, strict=True):
        per_token = []
        for x, right in zip(tokens.flatten(0, 1), wanted.flatten(), strict=True):
            scores = torch.stack([20 * (2 * (x * c).sum() - (c * c).sum()) for c in codebook])
            per_token.append(scores.logsumexp(0) - scores[right])
        codes.append(torch.stack(per_token).mean())
    error = sum(smooth(a, b) for a, b in zip(maps, targets, strict=True)) / 3
    code, total = sum(codes) / 3, smooth(together(maps), together(targets))
    for name, wanted in (("maps", error), ("code", code), ("sum", total)):
        torch.testing.assert_close(found[name], wanted)
    torch.testing.assert_close(found["loss"], error + 0.001 * code + 0.2 * total)


def test_targets_are_the_first_maps_of_the_tokenizer():
    model = telling_varsr()
    with torch.no_grad():
        whole, _, _ = model.quantizer.encode(model.encode_latent(tiles()))
    found = FrozenTokenizer(model).first_ids(tiles(), 3)
    assert all(torch.equal(a, b) for a, b in zip(found, whole, strict=False))
    assert len(torch.unique(torch.cat(found, dim=1), dim=0)) == len(tiles()), "worth learning"


def test_only_the_stated_parameters_change(base, folder, tmp_path):
    training = Training(config(steps=2), tmp_path / "run", [folder], [], base=base)
    before = {name: t.clone() for name, t in training.model.state_dict().items()}
    assert training.run()
    after = training.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    network = {name for name in before if name.startswith("network.")}
    assert changed <= network, "VARSR stays as it is"
    stated = {name for name in network if LEARNS.fullmatch(name.removeprefix("network."))}
    # Norms over channels one by one hide a shift right before them.
    unheard = {name for name in stated - changed if name.endswith("bias")}
    assert changed == stated - unheard
    assert len(unheard) < 0.2 * len(stated)
    learning = {n for n, p in training.model.named_parameters() if p.requires_grad}
    assert learning == stated


def test_a_new_network_begins_with_the_tokenizers_encoder():
    network, model = new_pair().network, telling_varsr()
    for part in ("encoder", "pre_quantizer"):
        own, wanted = (getattr(m, part).state_dict() for m in (network, model))
        assert all(torch.equal(own[name], wanted[name]) for name in wanted)
    assert network.input_scale.weight.tolist() == pytest.approx([0.1] * 3)


def test_it_learns_the_encoders_maps_and_its_file_gives_them(tmp_path):
    pair, model = new_pair(), telling_varsr()
    batch = SmallPairBatch(resize(tiles(), QUARTER, QUARTER), tiles(), [None] * len(tiles()))
    loss = K2NLoss(pair, K2NTraining())
    lq, ids = loss.inputs(batch)
    before = Coarse(pair.network).token_ids(model, lq)
    assert not any(torch.equal(a, b) for a, b in zip(before, ids, strict=True))
    pair.requires_grad_(False)
    chosen = settings(110, learning_rate=3e-3, weight_decay=0.0, clip=1.0, warmup_share=0.0)
    loop = Loop(loss.trained(), chosen, tmp_path, lambda: None)
    assert loop.run(lambda step, generator: loss(lq, ids, generator))
    path = tmp_path / MODEL_FILE
    save_checkpoint(checkpoint(pair), path, torch.float32, metadata={})

    coarse = Coarse(loaded(path).build())
    with torch.inference_mode():
        found = coarse.token_ids(model, lq)
    right = [(a == b).float().mean().item() for a, b in zip(found, ids, strict=True)]
    assert right == [1.0, 1.0, 1.0]
    # As VARSR Predict Coarse Tokens does; enlarged 4 times it sees the picture itself.
    tokens = predict_tokens(model, coarse, lq[:1], 4.0, Execution())
    for scale in range(3):
        assert torch.equal(tokens.token_ids[scale], ids[scale][:1])


def test_a_run_broken_in_two_ends_like_an_unbroken_one(base, folder, tmp_path):
    Training(config(), tmp_path / "whole", [folder], [], base=base).run()
    with broken_off():
        Training(config(), tmp_path / "broken", [folder], [], base=base).run()
    Training(config(), tmp_path / "broken", [folder], [], base=base).run()
    for name in (MODEL_FILE, "maps/log.csv"):
        whole, broken = ((tmp_path / run / name).read_bytes() for run in ("whole", "broken"))
        assert whole.splitlines() == broken.splitlines(), name
    saved = loaded(tmp_path / "whole" / MODEL_FILE)
    Coarse(saved.build()).check(telling_varsr())
    # The file knows the codebook that it belongs to.
    other = copy.deepcopy(telling_varsr())
    with torch.no_grad():
        other.quantizer.codebook.weight.mul_(2)
    place, start = tmp_path / "other.safetensors", tmp_path / "whole" / MODEL_FILE
    with pytest.raises(InputError, match="codebook"):
        Training(config(), tmp_path / "t", [folder], [], start, base=write_varsr(place, other))


def test_dropout_follows_the_generator_and_ends_with_the_step():
    network = new_pair().network
    lq = resize(tiles()[:1], QUARTER, QUARTER)

    def dropped(seed):
        with torch.no_grad(), dropping(network.maps, 0.5, torch.Generator().manual_seed(seed)):
            return torch.cat([m.flatten() for m in network(lq, 3)])

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, again, other = dropped(0), dropped(0), dropped(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        plain = torch.cat([m.flatten() for m in network(lq, 3)])
        assert torch.equal(plain, torch.cat([m.flatten() for m in network(lq, 3)]))
    assert not torch.equal(plain, first)


def test_what_is_missing_or_does_not_fit_is_told_before_the_run(folder, tmp_path, base):
    with pytest.raises(InputError, match="--base"):
        Training(config(), tmp_path / "run", [folder], [])
    with pytest.raises(InputError, match="texts"):
        Training(config(), tmp_path / "run", [folder], [], base=base, texts=base)
    wrong = TrainingConfig(model="k2n", model_settings={"epochs": 3})
    with pytest.raises(InputError, match="model_settings has epochs"):
        Training(wrong, tmp_path / "run", [folder], [], base=base)
    with pytest.raises(InputError, match=r"no stage; .* maps can"):
        Training(TrainingConfig(model="k2n"), tmp_path / "run", [folder], [], base=base)
    wrong = dataclasses.replace(config(), sizes={**SIZES, "heads": [4, 4, 5]})
    with pytest.raises(InputError, match="heads"):
        Training(wrong, tmp_path / "run", [folder], [], base=base)
    assert not (tmp_path / "run").exists()


def test_the_recipe_is_the_public_configuration():
    recipe = read_config(Path("k2n"))
    own = from_plain(K2NTraining, recipe.model_settings, "k2n")
    assert own.maps is not None
    assert own == K2NTraining(maps=own.maps)
    assert (own.maps.batch, own.maps.learning_rate, own.maps.weight_decay) == (80, 1e-4, 0.0)
    assert own.maps.steps * own.maps.batch == 40 * 1_600_000
    assert own.maps.rate(0) == own.maps.rate(own.maps.steps - 1) == 1e-4
    assert from_plain(K2NSizes, recipe.sizes, "sizes") == K2NSizes()
