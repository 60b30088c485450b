"""Files in the layouts that people have: their points are right, or the error says what to do, by line."""

import csv
import os
import re
import warnings
from pathlib import Path

import jsonargparse
import numpy as np
import pytest
import torch

from rsgm.cli.explain import explain
from rsgm.data import DihedralTableData, EarthData, ManifoldData, RotationData, TorusData, sources
from rsgm.description import build, describe
from rsgm.manifolds import SpecialOrthogonal, from_lat_lon
from rsgm.manifolds.so3 import matrix_to_quaternion, matrix_to_rotation_vector

N = 20
RNG = np.random.default_rng(0)
LAT, LON = RNG.uniform(-80, 80, N).round(3), RNG.uniform(-170, 170, N).round(3)
PHI, PSI = RNG.uniform(-180, 180, N).round(2), RNG.uniform(-180, 180, N).round(2)
PHI[0] = -75.0  # of both signs
GENERATOR = torch.Generator().manual_seed(0)
ROTATIONS = SpecialOrthogonal().random_uniform(N, 3, 3, generator=GENERATOR, dtype=torch.float64)
WXYZ = matrix_to_quaternion(ROTATIONS).numpy()
XYZW = np.roll(WXYZ, -1, 1)
VECTORS = matrix_to_rotation_vector(ROTATIONS).numpy()
LENGTHS = np.linalg.norm(VECTORS, axis=1)
AXES = VECTORS / LENGTHS[:, None]
MATRICES = ROTATIONS.flatten(1).numpy()
IDS = list(range(N))
NAMES = [f"Place {k}" for k in IDS]
TIMES = [f"{k}.5" for k in IDS]
POSITIONS = RNG.normal(size=(3, N)).round(3)


def rows(separator, *columns):
    """Lines of the columns; a number with all its digits, a string as it is."""
    return "".join(separator.join(map(str, cells)) + "\n" for cells in zip(*columns, strict=True))


def put(folder: Path, text: str | bytes, name: str = "mine.csv") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def case(name, text, **options):
    return pytest.param(text, options, id=name)


# ---- the Earth

LAT_LON = rows(",", LAT, LON)
COMMAS = (rows(";", LAT, LON)).replace(".", ",")
QUOTED = [f'"{a}","{b}"'.replace(".", ",") for a, b in zip(LAT, LON, strict=True)]
LONE = [*NAMES[:5], '"Lone', *NAMES[6:]]
TWO_LONE = [*NAMES[:5], '"Lone', *NAMES[6:10], '"Two', *NAMES[11:]]
FDSN = "#EventID|Time|Latitude|Longitude|Depth/km|Place\n"
RADIANS = rows(",", np.radians(LAT), np.radians(LON) % (2 * np.pi))

RIGHT_EARTH = [
    # names behind a comment's sign
    case("savetxt", "# lon,lat\n" + rows(",", LON, LAT)),
    case("savetxt_comma_over_spaces", "# lon,lat\n" + rows(" ", LON, LAT)),
    case("savetxt_spaces_over_comma", "# a catalogue of 2020\n#\n# lon lat\n" + rows(",", LON, LAT)),
    case("percent", "% lon lat\n" + rows("\t", LON, LAT)),
    case("slashes", "// lon, lat\n" + rows(", ", LON, LAT)),
    case("units_in_a_comment", "# Longitude [deg E], Latitude [deg N]\n" + rows(",", LON, LAT)),
    case("event_list", FDSN + rows("|", IDS, TIMES, LAT, LON, TIMES, ["Region, Land"] * N)),
    case("overpass", "@id\t@lon\t@lat\tname\n" + rows("\t", IDS, LON, LAT, NAMES)),
    case("overpass_places", "@lon\t@lat\n" + rows("\t", LON, LAT)),
    case("quoted_sign", '"# lon","lat"\n' + rows(",", LON, LAT)),
    case("comment_that_names_nothing", "# fires of one day, 2020\n" + LAT_LON),
    case("address_with_x_and_y", "# https://x.y/z\n" + LAT_LON),
    case("sign_as_a_name", "#,lat,lon\n" + rows(",", IDS, LAT, LON)),
    case("numbers_below_the_names", "# lon,lat\n# 1,2\n" + rows(",", LON, LAT)),
    case("units_below_the_names", "# lon,lat\n# degrees, degrees\n" + rows(",", LON, LAT)),
    # names that compete, and names of other kinds
    case("projected_beside", "X,Y,Latitude,Longitude\n" + rows(",", [5e5] * N, [6e6] * N, LAT, LON)),
    case("axes", "x,y\n" + rows(",", LON, LAT)),
    case("lng", "lng,lat\n" + rows(",", LON, LAT)),
    case("darwin_core", "id\tdecimalLatitude\tdecimalLongitude\n" + rows("\t", IDS, LAT, LON)),
    case("units", "Longitude (deg);Latitude (deg)\n" + rows(";", LON, LAT)),
    case("suffixes", "lon_deg,lat_deg\n" + rows(",", LON, LAT)),
    case("letters_of_what_has_signs", "lat,lon,satellite\n" + rows(",", LAT, LON, list("NS") * 10)),
    case("letters_of_a_turn", "lat,lon,b\n" + rows(",", LAT, LON % 360, list("EW") * 10)),
    case("names_that_are_no_sums", "kind,lat,lon\n" + rows(",", ["total", "partial"] * 10, LAT, LON)),
    case("letters_of_one_side", "lat,lon,side\n" + rows(",", LAT, LON, ["N", ""] * 10)),
    case("years_as_names", "id,lat,lon,2019,2020\n" + rows(",", IDS, LAT, LON, IDS, IDS)),
    case("columns", "x,y,lat\n" + rows(",", LON, LAT, LON), columns={"lat": "y", "lon": "x"}),
    case("one_of_the_columns", "lat,lon,northing\n" + rows(",", LON, LON, LAT), columns={"lat": "northing"}),
    case("columns_in_another_case", "Y,X\n" + LAT_LON, columns={"lat": "y", "lon": "x"}),
    case("columns_by_place", rows(",", IDS, LON, LAT), columns={"lat": 2, "lon": 1}),
    case("columns_named_0_and_1", "0,1\n" + rows(",", LON, LAT), columns={"lat": 1, "lon": 0}),
    case("columns_by_place_below_names", "a,b,c\n" + rows(",", IDS, LON, LAT), columns={"lat": 2, "lon": 1}),
    case("columns_by_place_below_a_comment", "# lon,lat\n" + rows(",", LON, LAT), columns={"lat": 1, "lon": 0}),
    case("columns_by_place_beside_words", rows("\t", NAMES, NAMES, LON, LAT), columns={"lat": 3, "lon": 2}),
    # pandas and R
    case("row_numbers_of_r", '"lat" "lon"\n' + rows(" ", [f'"{k + 1}"' for k in IDS], LAT, LON)),
    case("index_of_pandas", ",0,1\n" + rows(",", IDS, LAT, LON)),
    case("index_with_a_name", "index,0,1\n" + rows(",", IDS, LAT, LON)),
    case("index_of_r", '"","lat","lon"\n' + rows(",", [f'"{k}"' for k in IDS], LAT, LON)),
    # quotes
    case("lone_quote_between_tabs", "name\tlat\tlon\n" + rows("\t", LONE, LAT, LON)),
    case("lone_quotes_between_tabs", "name\tlat\tlon\n" + rows("\t", TWO_LONE, LAT, LON)),
    case("quotes_in_the_last_column", "lat\tlon\tname\n" + rows("\t", LAT, LON, [*TWO_LONE[:-1], 'b"'])),
    case("inches", "name,lat,lon\n" + rows(",", ['5" pipe'] * N, LAT, LON)),
    case("lines_in_a_cell", "name,lat,lon\n" + rows(",", ['"one\nand, two"'] * N, LAT, LON)),
    case("lines_in_all_names", '"lat\n(deg)","lon\n(deg)"\n' + LAT_LON),
    case("lines_in_two_cells", "a,b,lat,lon\n" + rows(",", ['"x\ny"'] * N, ['"z\ny"'] * N, LAT, LON)),
    case("lines_in_a_name", '"Depth\n(km)",lat,lon\n' + rows(",", IDS, LAT, LON)),
    case("lone_quote_in_the_tabbed_header", 'lat\tlon\t"place\n' + rows("\t", LAT, LON, [*NAMES[:-1], 'x"'])),
    case("sign_in_a_cell", "lat,lon,name\n" + rows(",", LAT, LON, ['"one\n# two"'] * N)),
    case("commas_in_the_header", '"place, town, region, land"\tlat\tlon\n' + rows("\t", NAMES, LAT, LON)),
    case("a_long_cell", "shape,lat,lon\n" + rows(",", ['"' + "1 2, " * 30000 + '"'] + [""] * (N - 1), LAT, LON)),
    case("a_long_bare_cell", "lat,lon,shape\n" + rows(",", LAT, LON, ["x" * 140000] + [""] * (N - 1))),
    case("numbered_with_a_sign", "id,lat,lon\n" + rows(",", [f"#{k}" for k in IDS], LAT, LON)),
    # separators, decimal commas, encodings, ends
    case("spaces", rows("   ", LAT, LON)),
    case("spaces_and_tabs", "lat \t lon\n" + rows(" \t", LAT, LON)),
    case("decimal_commas", "lat;lon\n" + COMMAS),
    case("decimal_commas_without_names", COMMAS),
    case("decimal_commas_between_spaces", COMMAS.replace(";", "  ")),
    case("decimal_commas_between_tabs", COMMAS.replace(";", "\t")),
    case("decimal_commas_beside_points", "time;" + "lat;lon\n" + "".join(f"1.5;{line}\n" for line in COMMAS.split())),
    case("decimal_commas_in_quotes", '"lat","lon"\n' + "\n".join(QUOTED)),
    case("commas_in_names", "name;lat;lon\n" + rows(";", ["a, b"] * N, LAT, LON)),
    case("mark", "\ufefflon,lat\n" + rows(",", LON, LAT)),
    case("mark_before_a_quote", '\ufeff"lon","lat"\n' + rows(",", LON, LAT)),
    case("mark_before_a_comment", "\ufeff# lon,lat\n" + rows(",", LON, LAT)),
    *(case(e, ("lon\tlat\n" + rows("\t", LON, LAT)).encode(e)) for e in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")),
    case("latin_1", ("name,lat,lon\n" + rows(",", ["São"] * N, LAT, LON)).encode("latin-1")),
    case("carriage_returns", ("lat,lon\n" + LAT_LON).replace("\n", "\r")),
    case("words_between_tabs", "name\tlat\tlon\n" + rows("\t", NAMES, LAT, LON).replace("Place", "A long place")),
    case("typeset_minus", "lat,lon\n" + LAT_LON.replace("-", "\u2212")),
    case("separators_at_the_end", "lat,lon\n" + rows(",", LAT, LON, [""] * N) + ",,\n"),
    case("separators_at_the_end_without_names", rows(",", LAT, LON, [""] * N)),
    case("title_above_numbers", "My data, version 2\n" + LAT_LON, skip_rows=1),
    case("title", "Volcanoes, of the World\nid,Latitude,Longitude\n" + rows(",", IDS, LAT, LON), skip_rows=1),
    # units
    case("radians", "lat,lon\n" + RADIANS, unit="radians"),
    case("radians_by_name", "lat [rad],lon [rad]\n" + RADIANS, unit="radians"),
    # names that only look like those of other conventions
    case("datum_and_signs", "Latitude (N),Longitude (W-/E+)\n" + LAT_LON),
    case("plural", "lat (degs),lon (W is negative)\n" + LAT_LON),
    case("datum", "lat (WGS84),lon (degrees_east)\n" + LAT_LON),
    case("positive_east", "lat (deg),lon [deg; west negative]\n" + LAT_LON),
    case("minutes_of_a_time", "time_min,lat (deg),lon (deg),depth [m],lon_err\n" + rows(",", IDS, LAT, LON, IDS, IDS)),
    case("a_box", "lat,lon,lat_min,lat_max,lon_m\n" + rows(",", LAT, LON, LAT, LAT, IDS)),
    case("signal_to_noise", "ra,dec,S/N,EW,hemisphere\n" + rows(",", LON, LAT, IDS, IDS, NAMES)),
    case("nanoseconds", "sec,ns,lat,lon,wind_dir\n" + rows(",", IDS, IDS, LAT, LON, IDS)),
    case("minutes_by_choice", "lat,lat_min,lon\n" + rows(",", LAT, IDS, LON), columns={"lat": "lat", "lon": "lon"}),
    case("sides_by_choice", "lat,hemi,lon\n" + rows(",", LAT, NAMES, LON), columns={"lat": "lat", "lon": "lon"}),
    case("heights_by_choice", "x,y,z\n" + rows(",", LON, LAT, IDS), columns={"lat": "y", "lon": "x"}),
]

ONES = [1] * N


@pytest.mark.parametrize("text, options", RIGHT_EARTH)
def test_places(tmp_path, text, options):
    data = EarthData(path=put(tmp_path, text), **options)
    expected = from_lat_lon(np.stack([LAT, LON], 1))
    assert data.points().shape == expected.shape
    assert (data.points() - expected).abs().max() < 1e-12
    assert data.provenance()["skipped"] == {"rows": 0, "first": []}


def test_places_in_sweden(tmp_path):
    """Whose code is that of a quadrant."""
    places = np.stack([abs(LAT), abs(LON)], 1)
    data = EarthData(path=put(tmp_path, "lat,lon,country\n" + rows(",", *places.T, ["SE"] * len(LAT))))
    assert (data.points() - from_lat_lon(places)).abs().max() < 1e-12


REFUSED_EARTH = [
    (
        case("lone_quote_in_a_short_row", 'name,lat,lon\n"a,1\n' + rows(",", [*NAMES[:5], 'b"', *NAMES[6:]], LAT, LON)),
        "1 of 21 rows are bad:\n  line 2: a quote",
    ),
    (
        case("json", '[{"lat": 1, "lon": 2}, {"lat": 3, "lon": 4}]'),
        "is JSON. Expected a table of text: export it as CSV",
    ),
    (case("geojson", '\n{\n "type": "FeatureCollection",\n "features": []}'), "is JSON. Expected a table"),
    (
        case("gpx", '<?xml version="1.0"?>\n<gpx>\n<trkpt lat="1" lon="2"></trkpt>\n</gpx>'),
        "is XML or HTML. Expected a table",
    ),
    (case("prose_that_names", "# columns: lon lat\n" + LAT_LON), r"comment in line 1, 'columns: lon lat'.*header"),
    (
        case("decimal_commas_below_a_comment", "# lat (deg), lon (deg)\n" + COMMAS.replace(";", ",")),
        "comment in line 1",
    ),
    (case("other_names", "# my file\n# easting,northing\n" + LAT_LON), "comment in line 2, 'easting,northing'"),
    (
        case("two_longitudes", "lat,lon,lng\n" + rows(",", LAT, LON, LON)),
        r"longitude: more.*'lon' \(column 2\) and 'lng'",
    ),
    (
        case("a_column_for_two", "a,b\n" + LAT_LON, columns={"lat": "a", "lon": "A"}),
        "latitude and longitude are both to be read from column 1, 'a'",
    ),
    (case("a_place_for_two", LAT_LON, columns={"lat": 0, "lon": "0"}), "both to be read from column 1"),
    (
        case("a_place_beyond", LAT_LON, columns={"lat": 0, "lon": 2}),
        "2 columns without a header. Expected a column 0 for",
    ),
    (case("another_place", "lat,lon\n" + LAT_LON, columns={"lat": 1, "lon": 0}), "first row is 'lat, lon'"),
    (case("axes_beside_a_latitude", "x,y,lat,longi\n" + rows(",", LON, LAT, LAT, LON)), "first row is 'x, y, lat"),
    (case("a_comment_for_each", "# 1: longitude\n# 2: latitude\n" + rows(" ", LON, LAT)), "comment in line 2, '2: lat"),
    (
        case("two_orders", "lat,lon\n" + LAT_LON + "lon,lat\n" + rows(",", LON, LAT), skip_bad=True),
        "line 22 names the columns in another order",
    ),
    (case("skipped_names", "lon,lat\n" + rows(",", LON, LAT), skip_rows=1), "line 1, 'lon,lat', may name the columns"),
    (
        case("another_order", rows(",", LON, LAT), skip_bad=True),
        r"fit another order than lat, lon, first line \d+: latitude .*--data.columns='{lon: 0, lat: 1}'",
    ),
    (
        case("escapes_of_databases", "name,lat,lon\n" + rows(",", ['"a \\"b\\" c"'] * N, LAT, LON)),
        "line 2: a quote opens",
    ),
    (case("twice", "lat,lon,lat\n" + rows(",", LAT, LON, LAT)), "latitude: more than one.*rename one in the file"),
    (case("two_cases", "Lat,LAT,lon\n" + rows(",", LAT, LAT, LON)), "'Lat' .*and 'LAT'.*--data.columns='{lat: NAME}'"),
    (case("mistyped", "Lattitude,Longitude\n" + LAT_LON), "'Lattitude' is near to 'latitude'.*--data.columns"),
    (
        case("mistyped_column", "northing,lon\n" + LAT_LON, columns={"lat": "norting"}),
        "'northing' is near to 'norting'",
    ),
    (case("name_of_pandas_or_point", "0,1\n" + rows(",", IDS, IDS)), "line 1, '0,1', is a row or the header"),
    (case("words_without_header", rows(",", NAMES, LAT, LON)), "the first row is 'Place 0,.*Expected a header"),
    (case("row_names_of_r", "lat lon\n" + rows(" ", IDS, LAT, LON)), "no row has as many cells.*names missing"),
    (case("commas_everywhere", "lat,lon\n" + COMMAS.replace(";", ",")), "no row has as many cells.*decimal comma"),
    (
        case("comma_and_point", "lat;lon\n1,5;2.5\n" + rows(";", LAT, LON)),
        "line 2: '1,5', '2.5' are not.*decimal comma",
    ),
    (
        case("degrees_and_minutes", "lat,lon\n" + rows(",", ["45°30'N"] * N, LON)),
        "column 'lat' holds no numbers, the first",
    ),
    (case("underscore", "lat,lon\n" + LAT_LON + "1_0,2\n"), "line 22: '1_0', '2' are not 2 numbers"),
    (case("other_digits", "lat,lon\n" + LAT_LON + "\u0661,2\n"), "line 22: '\u0661', '2' are not 2 numbers"),
    (
        case("lone_quote", "name,lat,lon\n" + rows(",", LONE, LAT, LON)),
        "1 of 20 rows are bad.*line 7: a quote opens here",
    ),
    (
        case("lone_quotes", "name,lat,lon\n" + rows(",", TWO_LONE, LAT, LON)),
        "2 of 20.*line 7: a quote.*line 12: a quote",
    ),
    (
        case("lone_quote_in_the_header", 'lat,lon,"place\n' + rows(",", LAT, LON, [*NAMES[:-1], 'x"'])),
        "line 1: a quote opens",
    ),
    (
        case("quotes_of_two_rows", "name,lat,lon\n" + rows(",", [*NAMES[:5], '"a', 'b"', *NAMES[7:]], LAT, LON)),
        "line 7: a quote",
    ),
    (case("row_of_separators", "lat,lon\n" + LAT_LON + ",\n1,2\n"), "line 22: '', '' are not 2 numbers"),
    (case("quoted_part", "name,lat,lon\n" + rows(",", ['"Big" hill', *NAMES[1:]], LAT, LON)), "line 2: a quote opens"),
    (case("comment_among_rows", "lat,lon\n" + LAT_LON + "# 1,2\n"), "line 22: begins with '#'.*--data.skip_bad"),
    (
        case("row_below_names_in_a_comment", "# id,lat,lon\n" + rows(",", ["#3", *IDS[1:]], LAT, LON)),
        "line 2 begins with '#', and is a row or a comment",
    ),
    (
        case("sums", "name,lat,lon\n" + rows(",", NAMES, LAT, LON) + "Mean:,1.5,2.5\n"),
        "line 22: 'Mean:' seems to sum up the rows above.*--data.skip_bad",
    ),
    (case("row_made_a_comment", "id,lat,lon\n" + rows(",", ["#0", *IDS[1:]], LAT, LON)), "line 2: begins with '#'"),
    (case("too_many", "id,lat,lon\n" + rows(",", IDS, LAT, LON) + "5,6,7,8\n"), "line 22: 4 cells, expected 3"),
    (case("too_few", "lat,lon,name\n" + rows(",", LAT, LON, NAMES) + "5,6\n"), "line 22: 2 cells, expected 3"),
    (case("too_many_without_header", LAT_LON + "1,5,2\n"), "line 21: 3 cells, expected 2"),
    (
        case("title_above", "Volcanoes\nid,lat,lon\n" + rows(",", IDS, LAT, LON)),
        "line 2 names the columns.*skip_rows=1",
    ),
    (case("title_above_numbers", "Volcanoes of the World\n" + LAT_LON), "title, to be left out with --data.skip_rows"),
    (case("all_skipped", "lat,lon\n" + LAT_LON, skip_rows=99), "no rows below line 99"),
    (case("a_separator_alone", ";"), "the first row is ';'. Expected a header"),
    (case("lines_of_separators", ",\n;\n|"), "the first row is '[,;]*'. Expected a header"),
    (
        case("names_in_radians", "lat_rad,lon_rad\n" + RADIANS),
        "'lat_rad' is named as being in radians.*--data.unit=radians",
    ),
    (case("like_radians", "lat,lon\n" + RADIANS), "look like radians: --data.unit=radians"),
    (case("no_radians", "lat,lon\n" + LAT_LON, unit="radians"), r"is outside \[-1.5708, 1.5708\]"),
    (case("gzip", b"\x1f\x8b\x08"), "is a gzip file.*unpack"),
    (case("spreadsheet", b"PK\x03\x04"), "is a zip file, or a spreadsheet.*export it as CSV"),
    (case("numpy", b"\x93NUMPY\x01"), "is a numpy array"),
    (case("zeros", b"a,b\n1,\x00\n"), "line 2 holds bytes of zero"),
    (case("parquet", b"PAR1\x15\x04"), "is a Parquet file. Expected a table"),
    (case("bzip2", b"BZh91AY&SY"), "is a bzip2 file.*unpack"),
    (case("xz", b"\xfd7zXZ\x00"), "is an xz file.*unpack"),
    (case("torn_utf_16", "lat,lon\n1,2".encode("utf-16")[:-1]), "begins as UTF-16 does, and is not"),
    (case("a_page", "<!doctype html>\n<html>\n<body>404, not found</body>\n"), "is XML or HTML"),
    (case("empty", ""), "no rows"),
    (case("names_alone", "lat,lon\n"), "a header but no rows"),
    # minutes and seconds
    *(
        (
            case(f"{a}_{b}", f"{a},{b},{c},lon\n" + rows(",", LAT, ONES, ONES, LON)),
            re.escape(f"'{a}' stands beside '{b}'{also}: ") + ".*one number",
        )
        for a, b, c, also in [
            ("lat_deg", "lat_min", "lat_sec", " and 'lat_sec'"),
            ("lat", "lat_minutes", "depth", ""),
            ("lat", "lat_arcmin", "depth", ""),
            ("Latitude Degrees", "Latitude Minutes", "depth", ""),
            ("lat_deg", "lat_m", "depth", ""),
            ("lat", "lat_m", "lat_s", " and 'lat_s'"),
            ("lat (deg)", "lat (min)", "lat (sec)", " and 'lat (sec)'"),
        ]
    ),
    # the sides of zero
    *(
        (
            case(f"{a}_{b}", f"lat,{a},lon,{b}\n" + rows(",", LAT, ["S"] * N, LON, ["W"] * N)),
            f"beside '{a}'.*below zero",
        )
        for a, b in [("ns", "ew"), ("N/S", "E/W"), ("lat_dir", "lon_dir"), ("hemisphere", "b"), ("lat_ns", "lon_ew")]
    ),
    *(
        (case(name, f"{name},{other}\n" + LAT_LON), f"named as counting to the {side}. Expected degrees north and east")
        for name, other, side in [
            ("Longitude (W)", "lat", "west"),
            ("Latitude [deg S]", "lon", "south"),
            ("lon (°W)", "lat", "west"),
            ("lon [degrees_west]", "lat", "west"),
            ("lon (degW)", "lat", "west"),
            ("lat (southward)", "lon", "south"),
        ]
    ),
    (case("west_positive", "lat,lon_west_positive\n" + LAT_LON), "Expected a header"),
    (
        case("west_by_choice", "lat,lon_west_positive\n" + LAT_LON, columns={"lat": "lat", "lon": "lon_west_positive"}),
        "counting to the west",
    ),
    # other units, and space
    (
        case("gon", "lat [gon],lon [gon]\n" + LAT_LON),
        r"'lat .gon.' is named as being in gon, .*degrees or radians: conv",
    ),
    (
        case("letters_beside", "lat,a,lon,b\n" + rows(",", abs(LAT), list("NS") * 10, abs(LON), list("EW") * 10)),
        "latitudes and longitudes stand beside 'a', which may say on which side of zero",
    ),
    (
        case("quadrants", "lat,lon,where\n" + rows(",", abs(LAT), abs(LON), ["sw", "NE"] * 10)),
        "stand beside 'where', which may say on which side of zero",
    ),
    (case("hours", "dec,ra [h]\n" + LAT_LON), "named as being in h, which is not read"),
    (case("sexagesimal", "lat (ddmm.mm),lon\n" + LAT_LON), "named as being in ddmm, which is not read"),
    (case("metres", "x [m],y [m]\n" + LAT_LON), "first row is 'x .m., y .m.'. Expected a header"),
    (case("space", "x,y,z\n" + rows(",", LON / 180, LAT / 180, ONES)), "first row is 'x, y, z'. Expected a header"),
]


@pytest.mark.parametrize("text, options, message", [pytest.param(*c.values, m, id=c.id) for c, m in REFUSED_EARTH])
def test_places_that_are_refused(tmp_path, text, options, message):
    path = put(tmp_path, text)
    with pytest.raises(ValueError, match=f"(?s){re.escape(path)}.*{message}"):
        EarthData(path=path, **options).points()


def test_unknown_roles_and_lines():
    with pytest.raises(ValueError, match="columns names latitude, expected lat and lon"):
        EarthData(columns={"latitude": "y"})
    with pytest.raises(
        ValueError, match="RotationData: columns names qw, expected all of one kind: qw, qx, qy, qz; rx"
    ):
        RotationData(columns={"qw": "a"})
    with pytest.raises(ValueError, match="skip_rows must not be negative, found -1"):
        EarthData(skip_rows=-1)


def test_a_row_that_holds_the_places_is_no_header(tmp_path):
    data = EarthData(path=put(tmp_path, "2,1,5\n" + rows(",", IDS, LON, LAT)), columns={"lat": 2, "lon": 1})
    assert (data.points() - from_lat_lon(np.stack([[5, *LAT], [1, *LON]], 1))).abs().max() < 1e-12


def test_header_of_pandas_is_no_point(tmp_path):
    data = EarthData(path=put(tmp_path, "0,1\n" + LAT_LON))
    with pytest.warns(UserWarning, match="line 1, 0,1, is taken for the header of pandas"):
        assert (data.points() - from_lat_lon(np.stack([LAT, LON], 1))).abs().max() < 1e-12
    # and decimals are a point
    assert len(EarthData(path=put(tmp_path, "0.0,1.0\n" + LAT_LON)).points()) == N + 1


def test_lines_in_a_cell_stay_apart(tmp_path):
    """A cell is as it is, and two numbers in it are not one."""
    data = EarthData(path=put(tmp_path, "lat,lon\n" + LAT_LON))
    data.setup()
    text = 'name,lat,lon\n"one\ntwo",10,20\nplain,30,40\n'
    assert data.read_rows(put(tmp_path, text, "new.csv")).cells == [["one\ntwo", "10", "20"], ["plain", "30", "40"]]
    with pytest.raises(ValueError, match="1 of 2 rows are bad:\n  line 2: '1\\\\n2', '20' are not 2 numbers"):
        data.read_rows(put(tmp_path, text.replace("10", '"1\n2"'), "two.csv"))


@pytest.mark.parametrize(
    "text, lines, kept",
    [
        ("lat,lon\nNA,NA\n" + LAT_LON + ",3\n", [2, 23], N),
        ("name,lat,lon\n" + rows(",", LONE, LAT, LON), [7], N - 1),
        ("lat,lon\ndeg,deg\n" + LAT_LON + "# end\n", [2, 23], N),
        ('name,lat,lon\r\n"a\r\nb",x,1\r\n' + rows(",", NAMES, LAT, LON).replace("\n", "\r\n"), [2], N),
        ("# c\r\rlat,lon\r1,2,3\r" + LAT_LON.replace("\n", "\r"), [4], N),
    ],
)
def test_bad_rows_that_are_skipped_are_counted(tmp_path, text, lines, kept):
    """By the line where they begin."""
    path = put(tmp_path, text)
    with pytest.raises(
        ValueError, match=f"(?s){len(lines)} of .* rows are bad.*line {lines[0]}: .*--data.skip_bad=true"
    ):
        EarthData(path=path).points()
    data = EarthData(path=path, skip_bad=True)
    with pytest.warns(UserWarning, match="rows are bad and left out"):
        record = data.provenance()["skipped"]
    assert record["rows"] == len(lines)
    assert [int(re.match(r"line (\d+): ", text)[1]) for text in record["first"]] == lines
    assert set(map(tuple, data.rows.values)) <= set(zip(LAT, LON, strict=True))
    assert len(data.rows.values) == kept


def test_a_file_that_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    path = put(tmp_path, LAT_LON)
    for error in (PermissionError(13, "Permission denied"), OSError(5, "Input/output error")):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", lambda _, error=error: (_ for _ in ()).throw(error))
            with pytest.raises(ValueError, match=f"^{re.escape(path)} cannot be read: {error.strerror}.$"):
                EarthData(path=path).points()


def test_the_limit_of_csv_is_as_before(tmp_path):
    limit = csv.field_size_limit()
    EarthData(path=put(tmp_path, "lat,lon\n" + LAT_LON)).points()
    assert csv.field_size_limit() == limit


# ---- the torus

ANGLES = rows(",", PHI, PSI)
SHUFFLED = RNG.permutation(N)

FIRST_TWO = {"phi": 0, "psi": 1}

RIGHT_TORUS = [
    case("exact_name_first", "Phi (deg),phi,psi\n" + rows(",", PSI, PHI, PSI), angles=["phi", "psi"]),
    case("savetxt", "# psi,phi\n" + rows(",", PSI, PHI), angles=["phi", "psi"]),
    case("savetxt_spaces", "# psi phi\n" + rows(" ", PSI, PHI), angles=["phi", "psi"]),
    case(
        "plumed",
        "#! FIELDS time psi phi\n#! SET min_phi -pi\n" + rows(" ", TIMES, *np.radians([PSI, PHI])),
        angles=["phi", "psi"],
        unit="radians",
    ),
    case(
        "plumed_of_four_columns",
        "#! FIELDS time phi psi frame\n#! SET min_phi -pi\n" + rows(" ", TIMES, *np.radians([PHI, PSI]), IDS),
        unit="radians",
    ),
    case("gromacs", '# rama\n@ title "A"\n' + rows(" ", PHI, PSI, NAMES).replace("Place ", "ALA-"), columns=FIRST_TWO),
    case("row_numbers_of_r", '"phi" "psi"\n' + rows(" ", [k + 1 for k in IDS], PHI, PSI)),
    case("names_in_a_comment", "# phi,psi,\n" + rows(",", PHI, PSI, [""] * N)),
    case("words_between_decimal_commas", "# phi;chain;psi\n" + rows(";", PHI, ["A"] * N, PSI).replace(".", ",")),
    case("without_names", ANGLES),
    case("numbered_angles", "phi:2 psi_1\n" + rows(" ", PHI, PSI)),
    case("other_angles", "ring,tilt\n" + ANGLES),
    case("named_by_place", ANGLES, angles=["phi", "psi"]),
    case("comment", "# Backbone of a protein\n" + ANGLES),
    case("index", ",phi,psi\n" + rows(",", SHUFFLED, PHI, PSI)),
    case("index_written_again", "Unnamed: 0,phi,psi\n" + rows(",", IDS, PHI, PSI)),
    case("index_and_no_names", ",0,1\n" + rows(",", IDS, PHI, PSI)),
    case(
        "residues", "chain,resname,resid,phi,psi\n" + rows(",", ["A"] * N, ["ALA"] * N, [k % 7 for k in IDS], PHI, PSI)
    ),
    case("group_and_another_split", "cluster,phi,psi\n" + rows(",", [k % 4 for k in IDS], PHI, PSI), group="cluster"),
    case("number_and_angles", "number,phi,psi\n" + rows(",", IDS, PHI, PSI), angles=["phi", "psi"]),
    case("words_and_angles", "kind,phi,psi\n" + rows(",", NAMES, PHI, PSI), angles=["PHI", "psi"]),
    case("separators_at_the_end", "phi,psi,\n" + rows(",", PHI, PSI, [""] * N)),
    case("columns", "P 1,P 2,other\n" + rows(",", PHI, PSI, PSI), columns={"phi": "P 1", "psi": "P 2"}),
    case("one_column", "P 1,psi,x\n" + rows(",", PHI, PSI, PSI), columns={"phi": "P 1"}, angles=["phi", "psi"]),
    case("columns_by_place", rows(",", IDS, PSI, PHI), columns={"phi": 2, "psi": 1}),
    case("from_zero", "phi,psi\n" + rows(",", PHI % 360, PSI % 360)),
    case("radians", "phi,psi\n" + rows(",", np.radians(PHI), np.radians(PSI)), unit="radians"),
    case(
        "radians_from_zero",
        "phi [rad],psi\n" + rows(",", np.radians(PHI) % 6.283185307179586, np.radians(PSI)),
        unit="radians",
    ),
    case("degrees_by_name", "phi (deg);psi (deg)\n" + rows(";", PHI, PSI).replace(".", ","), angles=["phi", "psi"]),
    case("units_that_are_none", "gradient (Ha),turns\n" + ANGLES),
    case("minutes_by_choice", "phi_deg,phi_min,psi\n" + rows(",", PHI, PSI, PSI), angles=["phi_deg", "psi"]),
    case("names_with_spaces", '"phi angle" "psi angle"\n' + rows(" ", PHI, PSI)),
]


@pytest.mark.parametrize("text, options", RIGHT_TORUS)
def test_angles(tmp_path, text, options):
    data = TorusData(path=put(tmp_path, text), **options)
    x = data.points()
    assert data.manifold.dim == 2
    expected = data.manifold.from_angles(torch.from_numpy(np.radians(np.stack([PHI, PSI], 1))))
    assert (x - expected).abs().max() < 1e-12


REFUSED_TORUS = [
    (case("twice", "phi,phi\n" + ANGLES), "'phi' is there more than once"),
    (case("two_cases", "a,A,b\n" + rows(",", PHI, PSI, PSI)), "'a' is there more than once"),
    (
        case("counter", "number,phi,psi\n" + rows(",", IDS, PHI, PSI)),
        "'number' holds whole numbers that rise.*--data.angles",
    ),
    (
        case("counter_of_chains", "number,phi\n" + rows(",", [k % 10 for k in IDS], PHI.round().astype(int))),
        "'number' holds whole",
    ),
    (case("counter_without_names", rows(",", IDS, PHI, PSI)), "'angle0' holds whole numbers that rise"),
    (
        case("clusters", "cluster,phi,psi\n" + rows(",", [k * 3 % 4 for k in IDS], PHI, PSI)),
        "'cluster'.*beside decimals",
    ),
    (case("a_column_for_two", "a,b\n" + ANGLES, columns={"phi": "a", "psi": "a"}), "phi and psi are both to be read"),
    (case("words", "kind,phi,psi\n" + rows(",", NAMES, PHI, PSI)), "'kind' holds no numbers.*--data.angles"),
    (
        case("words_without_names", rows(",", ["ALA"] * N, PHI, PSI)),
        "the first row is 'ALA.*Expected a header.*--data.angles",
    ),
    (case("no_name", "phi,,psi\n" + rows(",", PHI, PSI, PSI)), "column 2 has no name"),
    (case("prose_that_leaves_out", "# time series\n" + rows(" ", PHI, PSI)), "comment in line 1, 'time series'"),
    (case("absent", "phi1,psi\n" + ANGLES, angles=["phi", "psi"]), "'phi1' is near to 'phi'"),
    (case("prose_that_names", "# psi phi (deg)\n" + ANGLES, angles=["phi", "psi"]), "comment in line 1"),
    (case("none_at_the_end", "phi,psi\n" + ANGLES + "-75,360.0\n"), "line 22: 360 beside angles from -180 to 180"),
    (case("none_in_a_column", "phi,psi\n" + rows(",", PHI, abs(PSI)) + "-75,360.0\n"), "line 22: 360 beside"),
    (case("two_ranges", "phi,psi\n" + ANGLES + "200,1\n"), "line 22: 200 beside angles"),
    (
        case("none_in_radians", "phi,psi\n6.2831853,1\n" + rows(",", *np.radians([PHI, PSI])), unit="radians"),
        "line 2: 6.28",
    ),
    (case("like_radians", "phi,psi\n" + rows(",", *np.radians([PHI, PSI]))), "look like radians"),
    (case("like_radians_from_zero", "phi,psi\n" + rows(",", *np.radians([PHI, PSI]) % 6.28318)), "look like radians"),
    (case("named_radians", "phi (rad),psi (rad)\n" + rows(",", *np.radians([PHI, PSI]))), "named as being in radians"),
    (case("one_series", "0\n" + rows(",", PHI)), "line 1, '0', is a row or the header"),
    (case("no_group", "phi,psi\n" + ANGLES, split="group"), "header 'phi, psi', expected one with one column 'pdb'"),
    (case("two_groups", "Pdb,PDB,phi\n" + rows(",", IDS, IDS, PHI), split="group", angles=["phi"]), "'pdb'"),
    *(
        (
            case(f"unit {unit}", f"phi{unit},psi\n" + ANGLES),
            f"'phi.*' is named as being in {unit.strip('_ []()')}, which",
        )
        for unit in ("[gon]", " [turns]", " (h)", "_hours", " (rev)", "_mas", " [arcmin]", " [mrad]", " [grad]")
    ),
    (case("minutes", "phi_deg,phi_min\n" + ANGLES), "'phi_deg' stands beside 'phi_min'"),
    (case("minutes_of_one", "phi_deg,phi_min\n" + ANGLES, angles=["phi"]), "'phi_deg' stands beside 'phi_min'"),
    (case("no_angles", "resid,resname\n1,ALA\n"), "Expected a header that names angles"),
    (case("empty", ""), "no rows"),
]


@pytest.mark.parametrize("text, options, message", [pytest.param(*c.values, m, id=c.id) for c, m in REFUSED_TORUS])
def test_angles_that_are_refused(tmp_path, text, options, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        TorusData(path=put(tmp_path, text), **options).points()


@pytest.mark.parametrize(
    "name, turn, factor", [("hour", 24, 15), ("time_of_day", 24, 15), ("Month", 12, 30), ("doy", 366, 0.9836)]
)
def test_times_that_come_again_are_no_degrees(tmp_path, name, turn, factor):
    cells = [f"{k * 7 % turn}" for k in range(40)]
    path = put(tmp_path, f"{name}\n" + rows(",", cells))
    with pytest.raises(
        ValueError, match=f"the column '{name}' holds .* of which {turn} may be a turn.*by {factor}, or"
    ):
        TorusData(path=path, angles=[name]).points()
    found = TorusData(path=path, angles=[name], unit="degrees").rows.values[:, 0]
    np.testing.assert_allclose(found, (np.array(cells, float) + 180) % 360 - 180)
    degrees = put(tmp_path, f"{name}\n" + rows(",", [15 * (k % 24) - 90 for k in range(40)]))
    assert len(TorusData(path=degrees, angles=[name]).points()) == 40


def test_angles_of_which_some_are_in_radians_are_worth_a_word(tmp_path):
    path = put(tmp_path, "phi,psi\n" + rows(",", PHI, np.radians(PSI)))
    with pytest.warns(UserWarning, match="all numbers of 'psi' are in .* which look like radians"):
        TorusData(path=path).points()


def test_a_column_beside_directions_is_not_taken_in_silence(tmp_path):
    path = put(tmp_path, "wind_direction,wind_speed\n" + rows(",", PHI % 360, PSI % 50))
    with pytest.warns(UserWarning, match="columns 'wind_speed' are taken for angles too: --data.angles"):
        TorusData(path=path).points()


@pytest.mark.parametrize("name", ["bfactor", "t", "x"])
def test_a_column_beside_angles_is_not_taken_in_silence(tmp_path, name):
    path = put(tmp_path, f"{name},phi,psi\n" + rows(",", PHI / 9, PHI, PSI))
    with pytest.warns(UserWarning, match=f"columns '{name}' are taken for angles too: --data.angles"):
        TorusData(path=path).points()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TorusData(path=path, angles=["phi", "psi"]).points()
        TorusData(path=put(tmp_path, "phi:2 psi_1\n" + rows(" ", PHI, PSI))).points()
        TorusData(path=put(tmp_path, "ring,tilt\n" + ANGLES)).points()


def test_an_angle_is_asked_for_once():
    with pytest.raises(ValueError, match="TorusData: angles: 'phi' is there more than once"):
        TorusData(angles=["phi", "psi", "phi"])
    with pytest.raises(ValueError, match="TorusData: angles: found 0, expected the name of a column"):
        TorusData(angles=[0])


def test_columns_are_those_of_angles_that_are_read():
    with pytest.raises(ValueError, match="columns names psi, expected some of the angles"):
        TorusData(angles=["phi"], columns={"psi": "b"})


def test_small_degrees_are_said_to_be_degrees(tmp_path):
    path = put(tmp_path, "omega\n" + rows(",", PHI / 100))
    with pytest.raises(ValueError, match="unit=degrees as they are"):
        TorusData(path=path).points()
    np.testing.assert_allclose(TorusData(path=path, unit="degrees").rows.values[:, 0], PHI / 100, atol=1e-12)
    assert len(TorusData(path=put(tmp_path, "phi,psi\n" + rows(",", [k * 5 % 6 for k in IDS], [1] * N))).points()) == N


def test_a_whole_turn_is_an_angle_from_zero(tmp_path):
    data = TorusData(path=put(tmp_path, "phi,psi\n360,360.0\n" + rows(",", PHI % 360, PSI % 360)))
    assert data.rows.values[0].tolist() == [0, 0]
    assert data.to_units(data.points()).max() > 180


def test_few_rows_do_not_look_like_radians(tmp_path):
    text = "phi,psi\n" + "1.5,2\n" * 9
    assert len(TorusData(path=put(tmp_path, text), angles=["phi", "psi"]).points()) == 9
    with pytest.raises(ValueError, match="look like radians"):
        TorusData(path=put(tmp_path, text + "1.5,2\n"), angles=["phi", "psi"]).points()


def test_rows_in_another_unit_than_those_of_training(tmp_path):
    data = EarthData(path=put(tmp_path, "lat,lon\n" + rows(",", LAT, LON)))
    data.setup()
    lat, lon = np.radians(LAT), np.radians(LON)
    other = put(tmp_path, "lat,lon\n" + rows(",", lat, lon), name="other.csv")
    with pytest.warns(UserWarning, match=r"other.csv: .* which look like radians; they are read"):
        data.read_rows(other)
    sky = EarthData(path=put(tmp_path, "ra,dec\n" + rows(",", LON % 360, LAT)))
    sky.setup()
    other = put(tmp_path, "ra,dec\n" + rows(",", LON % 360 / 15, LAT), name="other.csv")
    with pytest.warns(UserWarning, match=r"other.csv: .* which look like hours; they are read"):
        sky.read_rows(other)
    space = (np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat))
    with pytest.raises(
        ValueError, match=r"space.csv: the first row is 'x, y, z'. Expected a header with one column of lat"
    ):
        data.read_rows(put(tmp_path, "x,y,z\n" + rows(",", *space), name="space.csv"))


def test_rows_without_an_angle_are_skipped(tmp_path):
    text = "resid,phi,psi\n1,360.0,100\n" + rows(",", IDS, PHI, PSI) + "9,-75,NaN\n"
    data = TorusData(path=put(tmp_path, text), skip_bad=True)
    with pytest.warns(UserWarning, match="2 of 22 rows are bad and left out"):
        np.testing.assert_allclose(data.to_units(data.points()), np.stack([PHI, PSI], 1), atol=1e-9)
    assert (
        data.provenance()["skipped"]["first"][0]
        == "line 2: 360 beside angles from -180 to 180; some programs write it for no angle"
    )


# ---- rotations

ROS = ",".join(f"field.pose.orientation.{c}" for c in "xyzw")
EUROC = (
    "#timestamp [ns],p_RS_R_x [m],p_RS_R_y [m],p_RS_R_z [m],q_RS_w [],q_RS_x [],q_RS_y [],q_RS_z [],"
    "v_RS_R_x [m s^-1],v_RS_R_y [m s^-1],v_RS_R_z [m s^-1],"
    "b_w_RS_S_x [rad s^-1],b_w_RS_S_y [rad s^-1],b_w_RS_S_z [rad s^-1]\n"
)
ELEMENTS = [f"{i}{j}" for i in "123" for j in "123"]
FROM_ZERO = [f"{i}{j}" for i in "012" for j in "012"]
BY_COLUMN = MATRICES.reshape(N, 3, 3).swapaxes(1, 2).reshape(N, 9)
POSE = np.zeros((N, 4, 4))
POSE[:, :3, :3], POSE[:, :3, 3], POSE[:, 3, 3] = ROTATIONS, POSITIONS.T, 1
DEGREES = np.degrees(VECTORS)


def listed(names):
    return ",".join(names) + "\n"


RIGHT_ROTATIONS = [
    case("scalar_first", "qw,qx,qy,qz\n" + rows(",", *WXYZ.T)),
    case("scalar_last", "qx,qy,qz,qw\n" + rows(",", *XYZW.T)),
    case("letters", "x,y,z,w\n" + rows(",", *XYZW.T)),
    case("savetxt", "# qx,qy,qz,qw\n" + rows(" ", *XYZW.T)),
    case("poses", "t,x,y,z,qx,qy,qz,qw\n" + rows(",", TIMES, *POSITIONS, *XYZW.T)),
    case("still_poses", "x,y,z,qx,qy,qz,qw\n" + rows(",", *np.zeros((3, N)), *XYZW.T)),
    case(
        "trajectory",
        "# ground truth\n# file: 'a.bag'\n# timestamp tx ty tz qx qy qz qw\n" + rows(" ", TIMES, *POSITIONS, *XYZW.T),
    ),
    case("euroc", EUROC + rows(",", IDS, *POSITIONS, *WXYZ.T, *POSITIONS, *POSITIONS)),
    case("ros", f"%time,field.pose.position.x,{ROS}\n" + rows(",", IDS, POSITIONS[0], *XYZW.T)),
    case("transforms", listed(f"transform/rotation/{c}" for c in "xyzw") + rows(",", *XYZW.T)),
    case("one_word", listed(f"Quat{c}" for c in "WXYZ") + rows(",", *WXYZ.T)),
    case("real_part", "qr,qi,qj,qk\n" + rows(",", *WXYZ.T)),
    case("scalar_and_vector", "qx,qy,qz,qs\n" + rows(",", *XYZW.T)),
    case(
        "transforms_by_element", listed(f"T{i}{j}" for i in "0123" for j in "0123") + rows(",", *POSE.reshape(N, 16).T)
    ),
    case("rot", "rot_x,rot_y,rot_z,rot_w\n" + rows(",", *XYZW.T)),
    case("numbers", "q0,q1,q2,q3\n" + rows(",", *WXYZ.T)),
    case("numbers_with_an_order", "q[0],q[1],q[2],q[3]\n" + rows(",", *XYZW.T), order="xyzw"),
    case("numbers_from_1", "q1,q2,q3,q4\n" + rows(",", *XYZW.T), order="xyzw"),
    case("full_names_first", "w,x,y,z,qw,qx,qy,qz\n" + rows(",", IDS, *POSITIONS, *WXYZ.T)),
    case("order_that_agrees", "qw,qx,qy,qz\n" + rows(",", *WXYZ.T), order="wxyz"),
    case("order_scalar_last", rows(" ", *XYZW.T), order="xyzw"),
    case("order_scalar_first", rows(",", *WXYZ.T), order="wxyz"),
    case("index_of_pandas", ",0,1,2,3\n" + rows(",", IDS, *XYZW.T), order="xyzw"),
    case("euler_beside", "qw,qx,qy,qz,euler_x,rot_euler_y\n" + rows(",", *WXYZ.T, IDS, IDS)),
    case("other_signs", "qw;qx;qy;qz\n" + rows(";", *-WXYZ.T).replace(".", ",")),
    case("columns", "a,b,c,d\n" + rows(",", *WXYZ.T), columns=dict(zip(("qw", "qx", "qy", "qz"), "abcd", strict=True))),
    case("columns_by_place", rows(" ", TIMES, *POSITIONS, *XYZW.T), columns={"qx": 4, "qy": 5, "qz": 6, "qw": "7"}),
    case("vectors", "rx,ry,rz\n" + rows(",", *VECTORS.T)),
    case("vectors_of_poses", "x,y,z,rx,ry,rz\n" + rows(",", *POSITIONS, *VECTORS.T)),
    case("vectors_in_full", listed(f"rotvec_{c}" for c in "xyz") + rows(",", *VECTORS.T)),
    case("vectors_by_number", "rvec0,rvec1,rvec2\n" + rows(",", *VECTORS.T)),
    case("vectors_without_names", rows(",", *VECTORS.T)),
    case("vectors_in_degrees", "rx [deg],ry [deg],rz [deg]\n" + rows(",", *DEGREES.T), unit="degrees"),
    case("matrices", listed(f"r{e}" for e in ELEMENTS) + rows(",", *MATRICES.T)),
    case("matrices_from_zero", " ".join(f"R_{e}" for e in FROM_ZERO) + "\n" + rows(" ", *MATRICES.T)),
    case("matrices_in_brackets", listed(f'"R[{i},{j}]"' for i, j in FROM_ZERO) + rows(",", *MATRICES.T)),
    case("matrices_by_column", listed(f"m{j}{i}" for i, j in ELEMENTS) + rows(",", *BY_COLUMN.T)),
    case("four_by_four", listed(f"m{i}{j}" for i in "0123" for j in "0123") + rows(",", *POSE.reshape(N, 16).T)),
    case(
        "four_by_four_from_1", listed(f"m{i}_{j}" for i in "1234" for j in "1234") + rows(",", *POSE.reshape(N, 16).T)
    ),
    case(
        "matrix_columns",
        listed("abcdefghi") + rows(",", *MATRICES.T),
        columns={f"r{e}": c for e, c in zip(ELEMENTS, "abcdefghi", strict=True)},
    ),
]


@pytest.mark.parametrize("text, options", RIGHT_ROTATIONS)
def test_rotations(tmp_path, text, options):
    data = RotationData(put(tmp_path, text), **options)
    assert (data.points() - ROTATIONS).abs().max() < 1e-12


def test_axes_are_vectors_where_that_is_said(tmp_path):
    path = put(tmp_path, "rx,ry,rz\n" + rows(",", *AXES.T))
    data = RotationData(path=path, unit="radians")
    np.testing.assert_allclose(data.to_units(data.points()), AXES, atol=1e-9)


def test_rounded_matrices_are_made_orthogonal(tmp_path):
    x = RotationData(put(tmp_path, listed(f"r{e}" for e in ELEMENTS) + rows(",", *MATRICES.round(3).T))).points()
    assert (x - ROTATIONS).abs().max() < 1e-3
    assert (x.mT @ x - torch.eye(3)).abs().max() < 1e-14


QUATERNIONS = rows(",", *WXYZ.T)
REFUSED_ROTATIONS = [
    (case("which_order", QUATERNIONS), "4 columns without a header: is the scalar part first or last.*--data.order"),
    (case("which_order_from_1", "q1,q2,q3,q4\n" + QUATERNIONS), "q1 to q4: is the scalar part first"),
    (case("which_order_of_numbers", listed(f"quat_{k}" for k in range(4)) + QUATERNIONS), "scalar part first or last"),
    (case("other_order", "qw,qx,qy,qz\n" + QUATERNIONS, order="xyzw"), "order says xyzw, and the columns are qw, qx"),
    (case("order_of_vectors", "rx,ry,rz\n" + rows(",", *VECTORS.T), order="xyzw"), "order says xyzw.*rx, ry, rz"),
    (
        case("order_in_a_comment", "# order: qx qy qz qw, scalar last\n" + QUATERNIONS, order="wxyz"),
        "comment in line 1",
    ),
    (case("letters_in_a_comment", "# poses: x y z w\n" + QUATERNIONS, order="wxyz"), "comment in line 1"),
    (case("poses_without_names", rows(" ", TIMES, *POSITIONS, *XYZW.T)), "8 columns without a header.*--data.columns"),
    (case("twice", "qw,qx,qy,qz,qw\n" + rows(",", *WXYZ.T, IDS)), "qw: more than one column.*rename one"),
    (
        case(
            "two_poses",
            listed(f"a.orientation.{c}" for c in "wxyz")[:-1] + "," + ROS + "\n" + rows(",", *WXYZ.T, *XYZW.T),
        ),
        "more than one rotation",
    ),
    (
        case("two_kinds", "qw,qx,qy,qz,rx,ry,rz\n" + rows(",", *WXYZ.T, *VECTORS.T)),
        "quaternions qw.*rotation vectors rx",
    ),
    (case("axes", "rx,ry,rz,angle\n" + rows(",", *AXES.T, LENGTHS)), "line 2: .* length 1, as all are: an axis"),
    (case("degrees", "rx,ry,rz\n" + rows(",", *DEGREES.T)), "longer than a turn, 6.283: degrees. --data.unit=degrees"),
    (case("named_degrees", "rx [deg],ry [deg],rz [deg]\n" + rows(",", *DEGREES.T)), "named as being in degrees"),
    (case("long_degrees", "rx,ry,rz\n" + rows(",", *DEGREES.T) + "400,0,0\n", unit="degrees"), "line 22: .*length 400"),
    (case("unit_of_quaternions", "qw,qx,qy,qz\n" + QUATERNIONS, unit="degrees"), "unit is that of rotation vectors"),
    (case("matrices_without_names", rows(",", *MATRICES.T)), "9 columns without a header"),
    (
        case("reflection", listed(f"r{e}" for e in ELEMENTS) + rows(",", *MATRICES.T) + "1,0,0,0,1,0,0,0,-1\n"),
        "line 22: .*determinant -1",
    ),
    (
        case("shear", listed(f"r{e}" for e in ELEMENTS) + "1,.5,0,0,1,0,0,0,1\n"),
        "line 2: a matrix that is 0.5 off orthogonal",
    ),
    (
        case("euler", "roll,pitch,yaw\n" + rows(",", *VECTORS.T)),
        "the first row is 'roll, pitch, yaw'.*rotation vectors.*Euler angles are not read",
    ),
    (
        case("euler_skipped", "roll,pitch,yaw\n" + rows(",", *VECTORS.T), skip_rows=1),
        "line 1, 'roll,pitch,yaw', may name",
    ),
    (
        case("a_column_for_two", "a,b,c\n" + rows(",", *VECTORS.T), columns={"rx": "a", "ry": "b", "rz": "b"}),
        "ry and rz are both to be read from column 2",
    ),
    (case("names_without_one", "a,b,c\n1,2,3\n", columns={"rx": "a", "ry": "b", "rz": "d"}), "a column .*'d' for rz"),
    (case("nan", "qw,qx,qy,qz\n" + QUATERNIONS + "nan,0,0,0\n"), "line 22: qw nan"),
    *(
        (case(names, listed(f"{names}{k}" for k in range(n)) + rows(",", *MATRICES[:, :n].T)), "Expected a header")
        for names, n in [("rot", 9), ("rot_6d_", 6), ("r_", 9)]
    ),
    (
        case("euler_in_a_comment", "# Euler angles XYZ, radians\n" + rows(",", *VECTORS.T)),
        "comment in line 1, 'Euler angles XYZ, radians', may name",
    ),
    (case("euler_names_in_a_comment", "# Euler angles XYZ\n" + rows(",", *VECTORS.T)), "'Euler' name Euler angles"),
    (
        case("euler_by_name", listed(f"euler_rot_{c}" for c in "xyz") + rows(",", *VECTORS.T)),
        "'euler_rot_x', 'euler_rot_y', 'euler_rot_z' name Euler angles, which are not read. Convert them",
    ),
]


@pytest.mark.parametrize("text, options, message", [pytest.param(*c.values, m, id=c.id) for c, m in REFUSED_ROTATIONS])
def test_rotations_that_are_refused(tmp_path, text, options, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        RotationData(put(tmp_path, text), **options).points()


# ---- samples are written as the file was

WRITTEN = [
    (EarthData, ("Latitude", "Longitude"), np.stack([LAT, LON], 1), {}),
    (EarthData, ("y", "x"), np.stack([LAT, LON % 360], 1), {"columns": {"lat": "y", "lon": "x"}}),
    (EarthData, ("lat", "lon"), np.radians(np.stack([LAT, LON], 1)), {"unit": "radians"}),
    (TorusData, ("P 1", "P 2"), np.stack([PHI, PSI % 360], 1), {"columns": {"phi": "P 1", "psi": "P 2"}}),
    (TorusData, ("phi", "psi"), np.radians(np.stack([PHI, PSI]) % 360).T, {"unit": "radians"}),
    (RotationData, ("qx", "qy", "qz", "qw"), XYZW, {}),
    (RotationData, ("b", "c", "d", "a"), XYZW, {"columns": {"qw": "a", "qx": "b", "qy": "c", "qz": "d"}}),
    (RotationData, ("w", "x", "y", "z"), WXYZ, {}),
    (RotationData, ("rz", "ry", "rx"), VECTORS[:, ::-1], {}),
    (RotationData, ("rx", "ry", "rz"), DEGREES, {"unit": "degrees"}),
    (RotationData, tuple(f"m{j}{i}" for i, j in FROM_ZERO), BY_COLUMN, {}),
]


@pytest.mark.parametrize("cls, header, values, options", WRITTEN)
def test_samples_are_in_the_columns_and_units_that_were_read(tmp_path, cls, header, values, options):
    data = cls(path=put(tmp_path, listed(header) + rows(",", *values.T)), **options)
    assert data.header == header
    np.testing.assert_allclose(data.to_units(data.points()), values, atol=1e-9)
    assert (data.from_units(data.to_units(data.points())) - data.points()).abs().max() < 1e-12
    # and again from what a checkpoint says
    again = build(describe(data), cls)
    assert again.fingerprint == data.fingerprint
    assert again.header == header
    np.testing.assert_array_equal(again.to_units(data.points()), data.to_units(data.points()))


def test_samples_of_both_ranges_are_around_zero(tmp_path):
    merged = rows(",", PHI, PSI) + rows(",", PHI % 360, PSI)
    data = TorusData(path=put(tmp_path, "phi,psi\n" + merged))
    np.testing.assert_allclose(data.to_units(data.points()), np.tile(np.stack([PHI, PSI], 1), (2, 1)), atol=1e-9)
    assert data.provenance()["distinct_rows"] == N
    data = EarthData(path=put(tmp_path, "lat,lon\n" + LAT_LON + rows(",", LAT, LON % 360)))
    np.testing.assert_allclose(data.to_units(data.points()), np.tile(np.stack([LAT, LON], 1), (2, 1)), atol=1e-9)


def test_places_at_zero_are_worth_a_word(tmp_path):
    with pytest.warns(UserWarning, match="2 of 22 rows are at 0, 0, which is where many files have what has no place"):
        EarthData(path=put(tmp_path, "lat,lon\n" + LAT_LON + "0,0\n0.0,0.0\n")).setup()


def test_nothing_is_said_of_files_that_are_right(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EarthData(path=put(tmp_path, "lat,lon\n" + LAT_LON)).setup()


# ---- what the command line gives


def test_options_on_the_command_line():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ManifoldData, "data")

    def parse(name, *arguments):
        return parser.parse_args([f"--data=rsgm.data.{name}", *arguments]).data.init_args

    given = parse("EarthData", "--data.columns={lat: y, lon: 1}", "--data.skip_bad=true", "--data.skip_rows=2")
    assert (given.columns, given.skip_bad, given.skip_rows, given.unit) == ({"lat": "y", "lon": 1}, True, 2, None)
    assert parse("RotationData", "--data.order=xyzw", "--data.unit=degrees").order == "xyzw"
    for wrong in ("--data.order=zyxw", "--data.unit=grad", "--data.columns=lat", "--data.skip_rows=one"):
        with pytest.raises(jsonargparse.ArgumentError):
            parse("RotationData", wrong)


def test_a_table_of_counts_is_no_csv(tmp_path):
    np.save(tmp_path / "floats.npy", np.full((3, 3), 1.5))
    for path in (put(tmp_path, "phi,psi\n" + ANGLES), str(tmp_path / "floats.npy")):
        with pytest.raises(ValueError, match=r"(?s)is no table of counts.*--data=TorusData --data.path=FILE"):
            DihedralTableData(path=path).points()


def test_a_device_is_no_file():
    with pytest.raises(ValueError, match="no regular file"):
        sources.locate("volcano", os.devnull)


def test_a_key_of_other_classes_is_not_called_near():
    assert explain("Option 'path' is not accepted", []) == (
        "unknown key 'path'; other classes have one, this class has not"
    )
    assert explain("Option 'pat' is not accepted", []).endswith("did you mean 'path'?")
