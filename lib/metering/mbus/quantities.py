"""What a record of M-Bus measures: the tables of EN 13757-3:2018 as rows, read when a record asks for one.

Sources: each row says what two or more say of libmbus f09d613, jMBus, pyMBusMaster (which cites the edition of 2018
table by table), pymbusparser 0.5.3, wmbusmeters 4dedd71 and, of tables 10 and 15, Kamstrup's decoder for LoRaWAN; of
FD 3C to 3F pyMBusMaster alone. Where they differ is in docs/meters.md.

A row is `first code, power of ten, unit, name` and holds until the next row's first code. The power is that of the
first code and grows by one a code; `=` is for a row whose power stays 0, and units apart by commas follow each other.
Unit `-` is none; name `?` is a code that is reserved, or whose meaning is not ours to guess: it has no value.
"""

from metering.compat import const
from metering.register import lookup

PRIMARY = """00 -3 Wh energy
08 0 J energy
10 -6 m³ volume
18 -3 kg mass
20 = s,min,h,d on time
24 = s,min,h,d operating time
28 -3 W power
30 0 J/h power
38 -6 m³/h volume flow
40 -7 m³/min volume flow
48 -9 m³/s volume flow
50 -3 kg/h mass flow
58 -3 °C flow temperature
5C -3 °C return temperature
60 -3 K temperature difference
64 -3 °C external temperature
68 -3 bar pressure
6C = - date
6D = - time
6E = HCA heat cost units
6F = - ?
70 = s,min,h,d averaging duration
74 = s,min,h,d actuality duration
78 = - fabrication number
79 = - enhanced identification
7A = - bus address
7B = - ?"""  # table 10; 7C plain text, 7B and 7D the extensions, 7E any, 7F the maker's: metering.mbus.records

FB = """00 5 Wh energy
02 3 varh reactive energy
04 3 VAh apparent energy
06 = - ?
08 8 J energy
0A = - ?
0C 5 cal energy
10 2 m³ volume
12 = - ?
14 0 var reactive power
18 5 kg mass
1A -1 % relative humidity
1C = - ?
20 0 ft³ volume
21 -1 ft³ volume
22 = - ?
28 5 W power
2A -1 ° angle of voltages
2B -1 ° angle of current
2C -3 Hz frequency
30 8 J/h power
32 = - ?
34 0 VA apparent power
38 = - ?
58 -3 °F flow temperature
5C -3 °F return temperature
60 -3 °F temperature difference
64 -3 °F external temperature
68 = - ?
70 -3 °F temperature limit
74 -3 °C temperature limit
78 -3 W highest power
80 = - ?"""  # table 14; in degrees Fahrenheit up to the edition of 2004, whose gallons (22 to 26) have become an angle

FD = """00 -3 - credit
04 -3 - debit
08 = - access number
09 = - medium
0A = - maker
0B = - parameter set
0C = - model
0D = - hardware version
0E = - firmware version
0F = - software version
10 = - customer location
11 = - customer
12 = - ?
17 = - error flags
18 = - error mask
19 = - ?
1A = - digital output
1B = - digital input
1C = Bd baud rate
1D = - response delay
1E = - retries
1F = - ?
20 = - first storage
21 = - last storage
22 = - size of storage
23 = - ?
24 = s,min,h,d,months,years storage interval
2A = - ?
2C = s,min,h,d since last read-out
30 = - start of tariff
31 = min,h,d duration of tariff
34 = s,min,h,d,months,years period of tariff
3A = - dimensionless
3B = - ?
3C = s,min,h,d period of transmission
40 -9 V voltage
50 -12 A current
60 = - reset counter
61 = - cumulation counter
62 = - control signal
63 = - day of week
64 = - week number
65 = - change of day
66 = - state of parameters
67 = - supplier's information
68 = h,d,months,years since last cumulation
6C = h,d,months,years battery operating time
70 = - date of battery change
71 = dBm signal level
72 = - ?
74 = d remaining battery time
75 = - times stopped
76 = - ?
82 = months,years remaining battery time
84 = - ?"""  # table 12, and from 80 on table 13, behind FD FD


# Units of the COSEM enumeration (IEC 62056-6-2, 4.3.2) that a reading's code tells
_CODES = (
    " Wh=30 J=25 m³=13 m³/h=15 W=27 °C=9 K=52 bar=24 s=7 min=6 h=5 V=35 A=33 Hz=44 var=29 varh=32 VA=28 VAh=31 %=56 "
)

# Unit of the counters of a meter of fixed structure: code -> power of ten and unit (EN 1434-3:1997, table 4)
_FIXED = (
    "02 0 Wh,05 3 Wh,08 6 Wh,0B 3 J,0E 6 J,11 9 J,14 0 W,17 3 W,1A 6 W,1D 3 J/h,20 6 J/h,23 9 J/h,26 -6 m³,29 -3 m³,"
    "2C 0 m³,2F -6 m³/h,32 -3 m³/h,35 0 m³/h"
)  # each row is followed by ten and hundred times it
SAME_BUT_HISTORIC = 0x3E
_MILLIKELVIN = 0x38
_HEAT_COST = 0x39

# Medium of the header -> value group A of the code (EN 13757-3:2018 table 13, IEC 62056-6-1 table 5)
_GROUPS = " 2=1 3=7 4=6 6=9 7=8 10=5 11=5 12=6 13=6 21=9 22=8 "
# A.quantity's name and unit -> C of the code, /D where that is not 0 (IEC 62056-6-1, tables 14, 24, 27 and 28). Forward
# and backward energy of electricity, and cooling as backward energy: as several drivers of wmbusmeters name them.
_CODES_OF = (
    " 6.energy.Wh=1 6.energy.J=1 6.volume.m³=2 6.power.W=8 6.volume_flow.m³/h=9 6.flow_temperature.°C=10"
    " 6.return_temperature.°C=11 6.temperature_difference.K=12 8.volume.m³=1 8.volume_flow.m³/h=2 7.volume.m³=3"
    " 7.volume,_at_base_conditions.m³=3/2 1.energy.Wh=1/8 1.energy,_backward.Wh=2/8 "
)
_SAME_AS = " 5=6 9=8 "  # cooling's codes are heat's, warm water's are cold water's
_HEAT_AND_COOLING = const(13)

FUNCTIONS = ("instantaneous", "maximum", "minimum", "error")


def quantity(table, code):
    """(power of ten, unit or None, name) of `code` in PRIMARY, FB or FD; the name is "?" where it tells none."""
    found = ""
    for row in table.split("\n"):
        if int(row[:2], 16) > code:
            break
        found = row
    first, power, unit, name = found.split(" ", 3)
    step = code - int(first, 16)
    if "," in unit:
        unit = unit.split(",")[step]
    return 0 if power == "=" else int(power) + step, None if unit == "-" else unit, name


def fixed_unit(code):
    """(power of ten, unit or None, name) of a counter's unit in the fixed structure; name "?" for what is none."""
    if code == _MILLIKELVIN:
        return -3, "°C", "temperature"
    if code == _HEAT_COST:
        return 0, "HCA", "heat cost units"
    for row in _FIXED.split(","):
        first, power, unit = row.split(" ")
        step = code - int(first, 16)
        if 0 <= step < 3:
            name = "volume" if unit == "m³" else "volume flow" if unit == "m³/h" else "power"
            return int(power) + step, unit, "energy" if unit in ("Wh", "J") else name
    return 0, None, "?"


def unit_code(unit):
    """The DLMS code of a unit's text, None where it has none."""
    code = unit and lookup(_CODES, unit)
    return int(code) if code else None


def obis_of(medium, name, unit, tariff, qualified=""):
    """The code of a current value of the main meter, None where the standard gives it none. E is the tariff.
    `qualified`: what VIFEs add to the name."""
    group = lookup(_GROUPS, medium)
    if medium == _HEAT_AND_COOLING and name + qualified == "energy, backward":
        group = "5"
        qualified = ""
    if group is None or not unit or tariff > 9 or tariff and name not in ("energy", "volume"):
        return None
    named = (name + qualified).replace(" ", "_")
    c, _, d = (lookup(_CODES_OF, "%s.%s.%s" % (lookup(_SAME_AS, group) or group, named, unit)) or "").partition("/")
    return bytes((int(group), 0, int(c), int(d or 0), tariff, 255)) if c else None


def maker_letters(code):
    """The three letters of a maker's 16-bit code (EN 13757-3:2018, 7.5.2), "" where they are no letters."""
    text = ""
    for shift in (10, 5, 0):
        letter = code >> shift & 0x1F
        if not 1 <= letter <= 26:
            return ""
        text += chr(64 + letter)
    return text
