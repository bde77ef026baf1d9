"""Which SQL statements leave nothing behind in the session of a database connection.

Only what is known to leave nothing is said to: plain reading and writing that calls no function
but the databases' own. ``SET``, a temporary table, an advisory lock, a function of the site's own
that may call ``set_config()``: all of that may stay, and a statement that is not understood too.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache

__all__ = ["leaves_nothing"]

MEMO_SIZE = 2048
MEMO_CHARACTERS = 4096
# A statement of more characters is not read: many rows at once, most often.
LONGEST = 200_000


class _Leaves(Enum):
    NOTHING = "nothing"
    WITHIN = "nothing, in a transaction"
    UNKNOWN = "something, perhaps"


_BEGINNING = re.compile(
    r"\s*(?:\(\s*)*(?:SELECT|INSERT|REPLACE|UPDATE|DELETE|WITH|VALUES|SHOW|SET\s+CONSTRAINTS)\b",
    re.IGNORECASE,
)
# What ends with the transaction. Without one SQLite's SAVEPOINT begins one. No transaction is begun
# here: Django does that itself, and whoever else does may not come to its end.
_TRANSACTION = re.compile(r"\s*(?:COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b", re.IGNORECASE)
# To MySQL it is SET SESSION.
_SET_LOCAL = re.compile(r"\s*SET\s+LOCAL\b", re.IGNORECASE)
# The same as a function, once what is in quotes is gone.
_LOCAL_CONFIG = re.compile(
    r"\bset_config\s*\(\s*''\s*,\s*(?:''|%s|%\(\w+\)s)\s*,\s*true\s*\)", re.IGNORECASE
)
# A second statement; a variable of MySQL's; a file.
_SUSPICIOUS = re.compile(r";\s*\S|:=|(?<![\w@<])@[\w'\"]|\bINTO\s+(?:OUT|DUMP)FILE", re.IGNORECASE)
# A table that a SELECT makes.
_INTO = re.compile(r"\bINTO\b", re.IGNORECASE)
_INSERT = re.compile(r"\b(?:INSERT|REPLACE|MERGE)(?:\s+\w+)*?\s+INTO\b", re.IGNORECASE)
# INSERT INTO "table" (columns)
_NAME = r"(?:[\w$]+|\"\")"
_TARGET = re.compile(rf"\bINTO\s+{_NAME}(?:\.{_NAME})*\s*\(", re.IGNORECASE)
# What is in quotes, an identifier or not. The second: of databases that have such identifiers.
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_QUOTED_OR_BRACKETED = re.compile(rf"{_QUOTED.pattern}|\[[^\]]*\]")
_BRACKETING = ("sqlite", "microsoft")
# Comments, and quotes whose end or meaning depends on the database and its settings. To write into
# pg_settings is to SET.
_UNREADABLE = re.compile(
    r"/\*|--|#(?![>-])|\\|\$\w*\$|\bu&['\"]|\bn?q'|\bpg_settings\b", re.IGNORECASE
)
_DOT = re.compile(r"\s*\.\s*")
_CALLED = re.compile(r"((?<![\w$.])[\w$.]+|[\"\]])\s*\(")

# What stands before a bracket and is no function.
_WORDS = """
all and any array as between by case check collate conflict cross cube default distinct do else
end escape except exists false fetch filter following for from full glob group grouping groups
having ilike in index inner intersect interval is isnull join key lateral left like limit match
materialized minus natural next not nothing notnull null nulls of offset on only or order outer
over overlaps partition preceding range recursive regexp returning right rlike rollup row rows
select set sets similar some tablesample then ties to true union unique unknown update using
values when where window with within xor
"""
_TYPES = """
bigint binary bit blob bool boolean bpchar bytea char character clob date datetime datetime2 dec
decimal double float float4 float8 inet int int2 int4 int8 integer json jsonb long money nchar
nclob number numeric nvarchar nvarchar2 raw real smallint text time timestamp timestamptz timetz
tinyint uuid varbinary varbit varchar varchar2 varying zone
"""
# The functions of SQLite, PostgreSQL (with PostGIS's st_), MySQL, MariaDB and Oracle that read.
_FUNCTIONS = """
abs acos acosh add_months adddate addtime age any_value array_agg array_append array_cat
array_dims array_fill array_length array_lower array_ndims array_position array_positions
array_prepend array_remove array_replace array_to_json array_to_string array_upper ascii asin
asinh atan atan2 atanh avg bin bit_and bit_count bit_length bit_or bit_xor bool_and bool_or
broadcast btrim bucket cardinality cast cbrt ceil ceiling changes char_length character_length chr
clock_timestamp coalesce concat concat_ws conv convert convert_from convert_to convert_tz corr cos
cosd cosh cot count covar_pop covar_samp crc32 cume_dist curdate current_database current_date
current_schema current_schemas current_setting current_time current_timestamp currval curtime
date_add date_bin date_format date_part date_sub date_trunc datediff daterange dayname dayofmonth
dayofweek dayofyear decode degrees dense_rank div elt encode enum_range every exp extract
factorial field find_in_set first_value floor format from_base64 from_days from_unixtime gamma gcd
gen_random_uuid generate_series generate_subscripts get_bit get_byte greatest group_concat hex
host hour ifnull iif initcap instr int4range int8range isempty isfinite json_agg json_array
json_array_length json_arrayagg json_build_array json_build_object json_contains
json_contains_path json_each json_each_text json_error_position json_extract json_extract_path
json_extract_path_text json_group_array json_group_object json_insert json_keys json_length
json_merge_patch json_merge_preserve json_object json_object_agg json_object_keys json_objectagg
json_overlaps json_patch json_pretty json_query json_quote json_remove json_replace json_scalar
json_search json_set json_strip_nulls json_table json_tree json_type json_typeof json_unquote
json_valid json_value jsonb_agg jsonb_array_elements jsonb_array_elements_text jsonb_array_length
jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text jsonb_exists jsonb_extract_path
jsonb_extract_path_text jsonb_insert jsonb_object jsonb_object_agg jsonb_object_keys
jsonb_path_exists jsonb_path_match jsonb_path_query jsonb_path_query_array jsonb_path_query_first
jsonb_populate_record jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record
jsonb_to_recordset jsonb_typeof julianday justify_days justify_hours justify_interval lag last_day
last_insert_id last_insert_rowid last_value lastval lcase lcm lead least length levenshtein
listagg ln localtime localtimestamp locate log log10 log2 lower lower_inc lower_inf lpad ltrim
make_date make_interval make_time make_timestamp make_timestamptz makedate maketime max md5
microsecond mid min minute mod mode month monthname months_between multirange name_const nextval
now nth_value ntile nullif num_nonnulls num_nulls numrange nvl nvl2 octet_length ord overlay
parse_ident percent_rank percentile_cont percentile_disc period_add period_diff
pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_backend_pid
pg_column_size pg_database_size pg_get_constraintdef pg_get_expr pg_get_indexdef
pg_get_serial_sequence pg_get_viewdef pg_indexes_size pg_is_in_recovery pg_last_wal_replay_lsn
pg_notify pg_postmaster_start_time pg_relation_size pg_size_pretty pg_sleep pg_table_is_visible
pg_table_size pg_total_relation_size pg_try_advisory_xact_lock pg_typeof phraseto_tsquery pi
plainto_tsquery point position
pow power printf quarter quote quote_ident quote_literal quote_nullable radians rand random
random_normal range_agg range_merge rank ratio_to_report regexp_count regexp_instr regexp_like
regexp_match regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table
regexp_substr regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy
regr_syy repeat replace reverse round row_count row_number row_to_json rpad rtrim scale
sec_to_time second session_user setweight sha1 sha2 sha224 sha256 sha384 sha512 sign similarity
sin sind sinh sleep soundex space split_part sqlite_version sqrt standard_hash starts_with
statement_timestamp std stddev stddev_pop stddev_samp str_to_date strcmp strftime
strict_word_similarity string_agg string_to_array string_to_table strip strpos subdate substr
substring substring_index subtime sum sysdate systimestamp tan tanh time_format time_to_sec
timediff timeofday timestampadd timestampdiff to_ascii to_base64 to_char to_clob to_date to_days
to_hex to_json to_jsonb to_nchar to_number to_regclass to_seconds to_timestamp to_timestamp_tz
to_tsquery to_tsvector total total_changes transaction_timestamp translate treat trim trim_array
trunc truncate ts_debug ts_delete ts_filter ts_headline ts_lexize ts_rank ts_rank_cd
tsquery_phrase tsrange tstzrange tsvector_to_array txid_current txid_current_if_assigned typeof
ucase unaccent unhex unicode unistr unix_timestamp unixepoch unnest upper upper_inc upper_inf user
utc_date utc_time utc_timestamp uuid uuid_generate_v1 uuid_generate_v4 uuid_short uuidv4 uuidv7
var_pop var_samp variance version websearch_to_tsquery week weekday weekofyear weight_string
width_bucket word_similarity xmlagg year yearweek zeroblob
"""
_HARMLESS = frozenset(" ".join((_WORDS, _TYPES, _FUNCTIONS)).split())


def leaves_nothing(sql: object, vendor: str = "", *, in_transaction: bool = False) -> bool:
    """Return whether a statement is known to leave nothing behind in its session.

    ``in_transaction``: one is open that Django knows of, and ends.
    """
    if type(sql) is not str or len(sql) > LONGEST:
        return False
    read = _read if len(sql) <= MEMO_CHARACTERS else _read.__wrapped__
    known = read(sql, vendor)
    return known is _Leaves.NOTHING or (known is _Leaves.WITHIN and in_transaction)


@lru_cache(MEMO_SIZE)
def _read(sql: str, vendor: str) -> _Leaves:
    sql = sql.replace(r"ESCAPE '\'", "")  # of LIKE, as Django writes it on SQLite
    if _UNREADABLE.search(sql) is not None:
        return _Leaves.UNKNOWN
    quoted = _QUOTED_OR_BRACKETED if vendor in _BRACKETING else _QUOTED
    sql = _DOT.sub(".", quoted.sub(lambda found: "''" if found[0][0] == "'" else '""', sql))
    if _SUSPICIOUS.search(sql) is not None:
        return _Leaves.UNKNOWN
    if _TRANSACTION.match(sql) or (vendor == "postgresql" and _SET_LOCAL.match(sql)):
        return _Leaves.WITHIN
    if _BEGINNING.match(sql) is None or len(_INTO.findall(sql)) != len(_INSERT.findall(sql)):
        return _Leaves.UNKNOWN
    sql, local = _LOCAL_CONFIG.subn("''", sql) if vendor == "postgresql" else (sql, 0)
    called = _CALLED.findall(_TARGET.sub(", (", sql))
    if not all(_is_harmless(one, vendor) for one in called):
        return _Leaves.UNKNOWN
    return _Leaves.WITHIN if local else _Leaves.NOTHING


def _is_harmless(name: str, vendor: str) -> bool:
    name = name.lower().removeprefix("pg_catalog.")
    return (
        name in _HARMLESS
        or name.isdecimal()
        or name.startswith("st_")  # of PostGIS and SpatiaLite
        or (vendor == "sqlite" and name.startswith("django_"))  # elsewhere Django has none
    )
