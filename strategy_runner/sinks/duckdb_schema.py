"""The tables and views of a client's DuckDB file, named for the analyst who reads them.

Append-only and without PRIMARY KEY or UNIQUE: DuckDB's trouble after a kill was with the write-ahead log of index
changes, updates and deletes. The file is a projection of the decision log, never the record.
"""

# Raise it when a table changes its shape: a file of another format is set aside and rebuilt from the decision log.
FORMAT = 2

CREATE = (
    "CREATE TABLE about (format INTEGER NOT NULL, client VARCHAR NOT NULL)",
    # one row for each batch; the largest is the sink's cursor
    "CREATE TABLE watermark (next_number BIGINT NOT NULL)",
    """
    CREATE TABLE signals (
        number BIGINT NOT NULL,
        signal_id VARCHAR NOT NULL,
        client VARCHAR NOT NULL,
        strategy VARCHAR NOT NULL,
        symbol VARCHAR NOT NULL,
        venue VARCHAR NOT NULL,
        timeframe VARCHAR NOT NULL,
        action VARCHAR NOT NULL,
        size DOUBLE,
        entry_price DOUBLE,
        stop_loss DOUBLE,
        take_profit DOUBLE,
        confidence DOUBLE,
        strength DOUBLE,
        strategy_type VARCHAR NOT NULL,
        verdict VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        refused_by VARCHAR NOT NULL,
        event_time TIMESTAMPTZ NOT NULL,
        event_ns BIGINT NOT NULL,
        received_ns BIGINT,
        recorded_time TIMESTAMPTZ NOT NULL,
        recorded_ns BIGINT NOT NULL,
        decided_time TIMESTAMPTZ NOT NULL,
        decided_ns BIGINT NOT NULL,
        age_s DOUBLE,
        limit_s DOUBLE,
        cause_stream VARCHAR NOT NULL,
        cause_ordinal BIGINT NOT NULL,
        seq BIGINT NOT NULL,
        epoch BIGINT NOT NULL,
        mode VARCHAR NOT NULL,
        generation VARCHAR NOT NULL,
        n BIGINT NOT NULL,
        reasons VARCHAR[] NOT NULL,
        body VARCHAR NOT NULL
    )
    """,
    """
    CREATE TABLE signal_models (
        number BIGINT NOT NULL,
        signal_id VARCHAR NOT NULL,
        model VARCHAR NOT NULL,
        score DOUBLE NOT NULL,
        confidence DOUBLE NOT NULL,
        weight DOUBLE NOT NULL,
        stream VARCHAR NOT NULL,
        ordinal BIGINT NOT NULL,
        event_time TIMESTAMPTZ NOT NULL,
        event_ns BIGINT NOT NULL
    )
    """,
    """
    CREATE VIEW accepted_signals AS
    SELECT number, event_time, signal_id, strategy, symbol, venue, action, size, entry_price, stop_loss, take_profit,
           confidence, strength, reasons
    FROM signals WHERE verdict = 'accepted'
    """,
    """
    CREATE VIEW refusals AS
    SELECT verdict, reason, refused_by, strategy, symbol, count(*) AS signals,
           min(event_time) AS first_time, max(event_time) AS last_time
    FROM signals WHERE verdict <> 'accepted'
    GROUP BY ALL ORDER BY signals DESC, verdict, reason, refused_by, strategy, symbol
    """,
    """
    CREATE VIEW signals_by_day AS
    SELECT CAST(make_timestamp(event_ns // 1000) AS DATE) AS day_utc, strategy, symbol, count(*) AS signals,
           count(*) FILTER (verdict = 'accepted') AS accepted,
           count(*) FILTER (verdict = 'refused') AS refused,
           count(*) FILTER (verdict = 'expired') AS expired
    FROM signals GROUP BY ALL ORDER BY day_utc, strategy, symbol
    """,
)

# What the INSERTs read out of a body. Strict: a body that is no JSON, or has one of these not or in another form, is an error.
_SIGNAL = """{
    "client": "VARCHAR", "strategy": "VARCHAR", "symbol": "VARCHAR", "venue": "VARCHAR", "timeframe": "VARCHAR",
    "action": "VARCHAR", "size": "DOUBLE", "entry_price": "DOUBLE", "stop_loss": "DOUBLE", "take_profit": "DOUBLE",
    "confidence": "DOUBLE", "strength": "DOUBLE", "strategy_type": "VARCHAR",
    "cause": {"stream": "VARCHAR", "ordinal": "BIGINT", "event_ns": "BIGINT"}, "reasons": ["VARCHAR"], "refusal": "VARCHAR"
}"""
_VOTES = """{
    "models": [{
        "model": "VARCHAR", "score": "DOUBLE", "confidence": "DOUBLE", "weight": "DOUBLE", "stream": "VARCHAR",
        "ordinal": "BIGINT", "event_ns": "BIGINT"
    }]
}"""

# The parameter is the client. make_timestamptz takes microseconds since 1970 and no time zone; casting a TIMESTAMP would ask
# the session's zone.
INSERT_SIGNALS = f"""
    INSERT INTO signals SELECT
        number, signal_id, if(said.client = ?, said.client, error('of client ' || said.client)),
        said.strategy, said.symbol, said.venue, said.timeframe, said.action, said.size, said.entry_price, said.stop_loss,
        said.take_profit, said.confidence, said.strength, said.strategy_type, verdict, reason,
        if(verdict = 'accepted', '', if(said.refusal IS NULL, 'router', 'worker')),
        make_timestamptz(said.cause.event_ns // 1000), said.cause.event_ns, nullif(received_ns, 0),
        make_timestamptz(recorded_ns // 1000), recorded_ns,
        make_timestamptz(decided_ns // 1000), decided_ns,
        if(limit_ns = 0, NULL, age_ns / 1e9), if(limit_ns = 0, NULL, limit_ns / 1e9),
        said.cause.stream, said.cause.ordinal, seq, epoch, mode, generation, n, said.reasons, body
    FROM (SELECT *, from_json_strict(body, '{_SIGNAL}') AS said FROM decisions)
"""

INSERT_MODELS = f"""
    INSERT INTO signal_models SELECT
        number, signal_id, vote.model, vote.score, vote.confidence, vote.weight, vote.stream, vote.ordinal,
        make_timestamptz(vote.event_ns // 1000), vote.event_ns
    FROM (
        SELECT number, signal_id, unnest(from_json_strict(body, '{_VOTES}').models) AS vote FROM decisions WHERE has_models
    )
"""
