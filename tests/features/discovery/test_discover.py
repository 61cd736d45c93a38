"""From dictionaries to ranked planes: graphs, clusters, reconstructions, the toy and the planted features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import features
from features.discovery import clusters, graph
from features.discovery.discover import DiscoverConfig, _plane, annotate, discover, score
from features.discovery.reconstruction import FiringIndex, planes, reconstruct_group
from features.irreducibility.measure import Irreducibility
from features.report.page import token_contexts, write_page
from features.sae.activations import FreshSamples
from features.sae.config import SAEConfig
from features.sae.model import SAE, Firing
from features.synthetic.planted import plant, toy_circles


def ring(count, axes, width, offset=0.0):
    angle = offset + 2 * np.pi * np.arange(count) / count
    rows = np.zeros((count, width))
    rows[:, axes[0]], rows[:, axes[1]] = np.cos(angle), np.sin(angle)
    return rows


def hand_made():
    """Two rings of ten elements and three lone ones, as an autoencoder whose latents tile two circles."""
    rows = np.concatenate([ring(10, (0, 1), 8), ring(10, (2, 3), 8), np.eye(8)[5:]]).astype(np.float32)
    bias = np.full(23, -0.85, np.float32)
    return SAE(
        jnp.asarray(rows.T), jnp.asarray(bias), jnp.asarray(rows), jnp.zeros(8), None, None, SAEConfig(8, 23)
    )


def hand_made_activations(n=6000, seed=0):
    rng = np.random.default_rng(seed)
    x = np.zeros((n, 8), np.float32)
    angle, where = rng.uniform(0, 2 * np.pi, n), rng.integers(0, 3, n)
    for circle in (0, 1):
        on = where == circle
        x[on, 2 * circle], x[on, 2 * circle + 1] = np.cos(angle[on]), np.sin(angle[on])
    x[where == 2, 5] = rng.uniform(0.9, 2, (where == 2).sum())
    return x, np.where(where == 0, np.round(angle / (2 * np.pi) * 8).astype(int) % 8, -1)


@pytest.mark.parametrize(("block", "tile"), [(1024, 8192), (7, 5), (64, 11)])
def test_nearest_is_the_brute_force_answer(block, tile):
    rows = np.random.default_rng(0).normal(size=(60, 9))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    order = np.argsort(-cosine, axis=1)[:, :3]
    found = graph.nearest(rows, 3, block=block, tile=tile)
    np.testing.assert_array_equal(found.index, order)
    np.testing.assert_allclose(found.cosine, np.take_along_axis(cosine, order, 1), atol=1e-6)


@pytest.mark.slow
def test_nearest_of_65_thousand_within_two_gigabytes():
    """The peak is read in a process of its own; all cosines would be 17 GB."""
    import subprocess
    import sys

    code = (
        "import numpy as np\nfrom features.discovery.graph import nearest\n"
        "rows = np.random.default_rng(0).normal(size=(65536, 16)).astype(np.float32)\n"
        "rows[1::2] = rows[::2] + 0.01\n"
        "found = nearest(rows, 2)\n"
        "assert (found.index[::2, 0] == np.arange(1, 65536, 2)).mean() > 0.99\n"
        "peak = next(l for l in open('/proc/self/status') if l.startswith('VmHWM'))\n"
        "print(int(peak.split()[1]) / 1e6)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) < 2.0  # GB


def test_bad_directions():
    rows = np.random.default_rng(0).normal(size=(5, 3))
    with pytest.raises(ValueError, match="expected 1 <= k < 5"):
        graph.nearest(rows, 5)
    with pytest.raises(ValueError, match="finite and not zero"):
        graph.nearest(rows * np.array([[1], [0], [1], [1], [1]]), 2)


def test_coactivation_is_the_jaccard_index():
    token = np.array([0, 0, 1, 1, 2, 3, 3])
    latent = np.array([0, 1, 0, 1, 0, 2, 0])
    found = graph.coactivation(Firing(np.ones(7, np.float32), latent, token), 4, most=3)
    assert found.index[1, 0] == 0 and found.cosine[1, 0] == pytest.approx(2 / 4)
    assert found.index[2, 0] == 0 and found.cosine[2, 0] == pytest.approx(1 / 4)
    assert np.isinf(found.cosine[3]).all()


@pytest.mark.parametrize("method", ["graph", "spectral"])
def test_clusters_are_the_rings(method):
    rows = np.concatenate([ring(12, (0, 1), 6), ring(12, (2, 3), 6, 0.1)])
    config = clusters.ClusterConfig(method=method, count=2, least_size=3)
    found = clusters.cluster(rows, config)
    assert [g.tolist() for g in found] == [list(range(12)), list(range(12, 24))]


def test_the_published_affinity_tears_circles():
    """A known failure: arcs instead of circles."""
    rows = np.concatenate([ring(16, (0, 1), 6), ring(16, (2, 3), 6, 0.1)])
    truth = np.repeat([0, 1], 16)

    def purity(affinity):
        labels = clusters.spectral(rows, 2, affinity=affinity)
        return max((labels == truth).mean(), (labels != truth).mean())

    assert purity("cosine") == 1
    assert purity("angular") < 0.95


def test_co_activation_edges_and_pruning():
    rows = np.eye(6)
    firing = Firing(np.ones(12, np.float32), np.tile([0, 1, 2, 3], 3), np.repeat(np.arange(6), 2))
    firing = firing._replace(token=np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]))
    config = clusters.ClusterConfig(threshold=0.9, coactivation=0.5)
    found = clusters.cluster(rows, config, firing=firing, tokens=6)
    assert [g.tolist() for g in found] == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="need `firing` and `tokens`"):
        clusters.cluster(rows, config)
    with pytest.raises(ValueError, match="too few to group"):
        clusters.cluster(rows, clusters.ClusterConfig(least_frequency=0.9), firing=firing, tokens=6)


def test_reconstructions_are_sums_over_the_group():
    sae = hand_made()
    x, _ = hand_made_activations(500)
    firing = features.firings(sae, x)
    latents = np.arange(10)
    found = reconstruct_group(FiringIndex(firing, 23), np.asarray(sae.W_dec), latents)
    dense = np.zeros((500, 23), np.float32)
    dense[firing.token, firing.latent] = firing.value
    active = np.flatnonzero((dense[:, :10] > 0).any(1))
    np.testing.assert_array_equal(found.tokens, active)
    direct = dense[active, :10] @ np.asarray(sae.W_dec)[:10]
    np.testing.assert_allclose(found.points @ found.components + found.mean, direct, atol=1e-5)
    np.testing.assert_allclose(
        found.components @ found.components.T, np.eye(len(found.components)), atol=1e-5
    )
    assert (np.diff(found.variance) <= 1e-9).all()
    strong = reconstruct_group(FiringIndex(firing, 23), np.asarray(sae.W_dec), latents, threshold=0.12)
    assert 0 < len(strong.tokens) < len(found.tokens)
    assert planes(5) == [(0, 1), (1, 2), (2, 3), (3, 4)] and planes(1) == []


def test_rankings():
    found = [Irreducibility(1.0, 0.5, 2, 100, "X"), Irreducibility(2.0, 0.005, 2, 100, "X")]
    assert score(found, "paper") == pytest.approx((0.5 + 1.99) / 2)
    assert score(found, "reference") == pytest.approx(0.5 / 2)
    assert score(found, "best plane") == pytest.approx(1.99)


def test_discover_finds_and_ranks_the_circles(tmp_path):
    sae = hand_made()
    x, labels = hand_made_activations()
    config = DiscoverConfig(clusters.ClusterConfig(least_size=3), bootstrap=20, permutations=60)
    found = discover(sae, x, config, key=jax.random.key(0))
    assert [c.latents.tolist() for c in found.candidates] in (
        [list(range(10)), list(range(10, 20))], [list(range(10, 20)), list(range(10))]
    )  # fmt: skip
    for candidate in found.candidates:
        best = candidate.planes[candidate.best_plane]
        assert candidate.p_value == candidate.q_value == pytest.approx(2 / 61)
        low, high = best.separability_interval
        assert low <= best.separability <= high
    first = next(c for c in found.candidates if 0 in c.latents)
    said = annotate(first, labels, 8, key=jax.random.key(0))
    assert said.share == 1 and said.covered == 8 and said.order.value == 1
    assert said.order.p_value < 0.01 and said.fit.value > 0.9 and said.fit.p_value < 0.01
    other = next(c for c in found.candidates if 10 in c.latents)
    assert annotate(other, labels, 8, key=jax.random.key(0)).order is None
    rows = found.table()
    assert rows[0]["rank"] == 1 and rows[0]["score"] >= rows[1]["score"]
    again = discover(sae, x, config, key=jax.random.key(0))
    assert again.table() == rows
    words = [f" w{abs(label)}<b>" for label in labels]
    write_page(found, words, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "Discovered planes" in text and "<b>" not in text.split("<main>")[1].replace("<br>", "")
    assert token_contexts(["a", "b", "c"], np.array([1])) == ["…a[b]c…"]


def test_nulls_of_annotations_are_uniform_enough():
    """Random labels are not called circles: p below 0.05 in about one of twenty."""
    sae = hand_made()
    x, _ = hand_made_activations()
    found = discover(
        sae, x, DiscoverConfig(clusters.ClusterConfig(least_size=3), detailed=0), key=jax.random.key(0)
    )
    rng = np.random.default_rng(0)
    candidate = found.candidates[0]
    # Eight places on the ring, named at random anew each time.
    angle = np.arctan2(candidate.reconstruction.points[:, 1], candidate.reconstruction.points[:, 0])
    place = np.round(angle / (2 * np.pi) * 8).astype(int) % 8
    small = 0
    for draw in range(60):
        labels = np.full(len(x), -1)
        labels[candidate.reconstruction.tokens] = rng.permutation(8)[place]
        note = annotate(candidate, labels, 8, permutations=199, key=jax.random.key(draw))
        small += note.fit.p_value <= 0.05
    assert small <= 9


def test_discover_names_what_is_wrong():
    sae = hand_made()
    x, _ = hand_made_activations(300)
    with pytest.raises(ValueError, match="7 wide, but the SAE reads d_in=8"):
        discover(sae, x[:, :7], key=jax.random.key(0))
    with pytest.raises(ValueError, match="fires on 5000 tokens"):
        discover(sae, x, DiscoverConfig(least_points=5000), key=jax.random.key(0))
    with pytest.raises(ValueError, match="needs activations"):
        discover(sae, key=jax.random.key(0))
    for kwargs, message in (
        ({"ranking": "best"}, "ranking"),
        ({"components": 1}, "two"),
        ({"least_points": 5}, "100"),
    ):
        with pytest.raises(ValueError, match=message):
            DiscoverConfig(**kwargs)
    for kwargs in (
        {"method": "x"},
        {"threshold": 2.0},
        {"neighbors": 0},
        {"affinity": "x"},
        {"least_frequency": 2.0},
    ):
        with pytest.raises(ValueError):
            clusters.ClusterConfig(**kwargs)


def test_toy_circles_end_to_end():
    """The paper's toy: a trained autoencoder's elements fall into the two planes, and give the circle back."""
    config = features.TrainConfig(steps=20_000, batch=256, warmup=1000, b_dec_init="zeros", chunk=1000)
    trained = features.train(FreshSamples(toy_circles, 10), SAEConfig(10, 64), config, key=jax.random.key(0))
    x = toy_circles(np.random.default_rng(9), 8000)
    firing = features.firings(trained.sae, x)
    config = clusters.ClusterConfig(least_frequency=0.004, least_size=3)
    rows = np.asarray(trained.sae.W_dec)
    groups = clusters.cluster(rows, config, firing=firing, tokens=8000)
    assert len(groups) == 2
    energies = [[(rows[g][:, a] ** 2).sum(1).min() for a in ([0, 1], [2, 3])] for g in groups]
    assert sorted(np.argmax(energies, 1).tolist()) == [0, 1] and np.max(energies, 1).min() > 0.99
    for group, plane in zip(groups, np.argmax(energies, 1), strict=True):
        found = reconstruct_group(FiringIndex(firing, 64), rows, group)
        axes = [2 * plane, 2 * plane + 1]
        truth = x[found.tokens][:, axes]
        given = (found.points @ found.components + found.mean)[:, axes]
        weights = np.linalg.lstsq(np.c_[given, np.ones(len(given))], truth, rcond=None)[0]
        left = truth - np.c_[given, np.ones(len(given))] @ weights
        assert 1 - (left**2).sum() / ((truth - truth.mean(0)) ** 2).sum() > 0.98


def test_planted_features_lie_where_they_should():
    planted = plant(np.random.default_rng(0))
    x, coordinates = planted.draw_labeled(np.random.default_rng(1), 4000)
    assert x.shape == (4000, 64) and x.dtype == np.float32
    for number in range(4):
        active = (coordinates[:, number] != 0).any(1)
        assert 0.04 < active.mean() < 0.08
        assert features.overlap(planted.planes[number].T, planted.planes[number].T) == pytest.approx(1)
    corners = np.arctan2(coordinates[:, 1, 1], coordinates[:, 1, 0])[(coordinates[:, 1] != 0).any(1)]
    assert np.abs(np.round(corners * 7 / 2 / np.pi) - corners * 7 / 2 / np.pi).max() < 0.35
    assert features.principal_cosines(np.eye(4)[:, :2], np.eye(4)[:, 1:3]).tolist() == [1.0, 0.0]


def test_lowers_for_accelerators():
    from features.discovery.graph import _block_neighbors

    rows = jax.ShapeDtypeStruct((64, 8), jnp.float32)
    block = jax.ShapeDtypeStruct((16, 8), jnp.float32)
    first = jax.ShapeDtypeStruct((), jnp.int32)
    jax.export.export(
        jax.jit(lambda b, f, r: _block_neighbors(b, f, r, 2, 16)), platforms=["cpu", "cuda", "tpu"]
    )(block, first, rows)


def test_foreign_firings_are_named():
    sae = hand_made()
    firing = Firing(np.ones(3, np.float32), np.array([0, 1, 30]), np.arange(3))
    with pytest.raises(ValueError, match="latent 30 fires, but the SAE has d_sae=23"):
        discover(sae, key=jax.random.key(0), firing=firing, tokens=3)
    with pytest.raises(ValueError, match="no latent fires"):
        discover(sae, np.concatenate([0.1 * np.eye(8), np.zeros((3, 8))]), key=jax.random.key(0))


INDICES = st.builds(
    lambda s, m: Irreducibility(s, m, 2, 100, "X"), st.floats(0, 3), st.floats(0, 1) | st.floats(0, 0.02)
)


@given(st.lists(INDICES, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_rankings_are_means_over_planes_in_any_order(found, random):
    values = [(1 - p.mixture) * p.separability for p in found]
    kept = [v for v, p in zip(values, found, strict=True) if p.mixture >= 0.01]
    assert score(found, "paper") == pytest.approx(sum(values) / len(values))
    assert score(found, "reference") == pytest.approx(sum([0.0, *kept]) / (1 + len(kept)))
    assert score(found, "best plane") == max(values)
    other = random.sample(found, len(found))
    for ranking in ("paper", "reference", "best plane"):
        assert score(other, ranking) == pytest.approx(score(found, ranking))
    assert score(found, "reference") <= score(found, "best plane") + 1e-12


@pytest.fixture(scope="module")
def discovered():
    """Ranked groups of the two rings, without intervals, and what went in."""
    sae, (x, labels) = hand_made(), hand_made_activations(1500)
    config = DiscoverConfig(clusters.ClusterConfig(least_size=3), detailed=0)
    return sae, x, labels, config, discover(sae, x, config, key=jax.random.key(0))


def test_firings_that_were_encoded_before_give_the_same_groups(discovered):
    sae, x, _, config, found = discovered
    again = discover(
        sae, config=config, key=jax.random.key(5), firing=features.firings(sae, x), tokens=len(x)
    )
    assert again.table() == found.table() and (again.groups, again.tokens) == (found.groups, 1500)


def test_new_names_and_places_change_nothing_but_names_and_places(discovered):
    """Latents in another order, tokens in another order: the same groups, points and nearly the same indices."""
    sae, x, _, config, found = discovered
    rng = np.random.default_rng(0)
    latents, tokens = (
        rng.permutation(23),
        rng.permutation(1500),
    )  # new place of each is where its number stands
    renamed = SAE(
        sae.W_enc[:, latents], sae.b_enc[latents], sae.W_dec[latents], sae.b_dec, None, None, sae.config
    )
    other = discover(renamed, x[tokens], config, key=jax.random.key(0))
    groups = {frozenset(latents[c.latents].tolist()): c for c in other.candidates}
    assert len(groups) == len(found.candidates) == 2
    for candidate in found.candidates:
        same = groups[frozenset(candidate.latents.tolist())]
        assert sorted(tokens[same.reconstruction.tokens].tolist()) == candidate.reconstruction.tokens.tolist()
        assert same.score == pytest.approx(candidate.score, abs=0.05)
        np.testing.assert_allclose(same.reconstruction.variance, candidate.reconstruction.variance, rtol=1e-3)


def test_a_table_is_the_candidates_in_plain_words(discovered):
    *_, found = discovered
    scores = [c.score for c in found.candidates]
    assert scores == sorted(scores, reverse=True) and found.table(1) == found.table()[:1]
    for rank, (row, c) in enumerate(zip(found.table(), found.candidates, strict=True), 1):
        best = c.planes[c.best_plane]
        assert best.score == max(p.score for p in c.planes.values())
        assert c.score == pytest.approx(score(list(c.planes.values()), "paper"))
        assert c.separability == pytest.approx(np.mean([p.separability for p in c.planes.values()]))
        assert c.mixture == pytest.approx(np.mean([p.mixture for p in c.planes.values()]))
        assert row["rank"] == rank and row["latents"] == c.latents.tolist()
        assert row["best plane"] == [i + 1 for i in c.best_plane] and row["points"] == len(
            c.reconstruction.points
        )
        assert (
            row["S best"] == pytest.approx(best.separability, abs=1e-4)
            and row["p"] is row["S interval"] is None
        )


def test_points_near_the_origin_may_be_left_out(discovered):
    *_, found = discovered
    points = found.candidates[0].reconstruction.points
    for radius in (0.0, 0.1, 10.0):
        kept = _plane(points, (0, 1), radius)
        expected = points[:, :2][np.linalg.norm(points[:, :2], axis=1) >= radius]
        np.testing.assert_array_equal(kept, expected)


def test_annotations_say_what_is_covered_and_refuse_what_does_not_fit(discovered):
    _, _, labels, _, found = discovered
    first = next(c for c in found.candidates if 0 in c.latents)
    tokens = first.reconstruction.tokens
    said = annotate(first, labels, 8, permutations=9, key=jax.random.key(0))
    np.testing.assert_array_equal(said.labels, labels[tokens])
    assert said.share == (labels[tokens] >= 0).mean() and said.covered == len(set(labels[tokens]) - {-1})
    # Names that go around the ring in another order are no circle in that order.
    scrambled = np.where(labels < 0, -1, np.array([0, 3, 6, 1, 4, 7, 2, 5])[labels])
    other = annotate(first, scrambled, 8, permutations=9, key=jax.random.key(0))
    assert said.order.value == 1 > other.order.value and said.fit.value > other.fit.value
    for bad, period, message in (
        (labels[:100], 8, r"labels have shape \(100,\); one is needed for every token"),
        (labels[:, None], 8, "labels have shape"),
        (labels, 7, "labels up to 7: expected -1 to 6"),
    ):
        with pytest.raises(ValueError, match=message):
            annotate(first, bad, period, key=jax.random.key(0))
    few = annotate(first, np.where(labels == 3, -1, labels), 8, key=jax.random.key(0))
    assert few.covered == 7 and few.plane is few.order is few.fit is None
