-- What follows from the new readings of a flush in one call, in place of four round trips, and with half of the WAL that
-- series_state took. While a flush holds the rows of series_state, other flushes of the same series wait for it.

-- Stores the newest reading of each series, given in ascending order of series. Nearly all series are known, and an
-- UPDATE locks no row before it changes it, as ON CONFLICT does. The settings leave only plans that take the rows in
-- ascending order, so that flushes of known series never deadlock.
CREATE FUNCTION update_series_state_1(state_ids int[], state_times_us bigint[], state_values float8[]) RETURNS void
    LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    updated int;
BEGIN
    UPDATE series_state AS state SET
        last_value = CASE WHEN from_us(us) > last_time THEN value ELSE last_value END,
        last_time = greatest(last_time, from_us(us)),
        received_at = now(), only_imported = FALSE
      FROM unnest(state_ids, state_times_us, state_values) AS new (series_id, us, value)
     WHERE state.series_id = new.series_id;
    GET DIAGNOSTICS updated = ROW_COUNT;
    IF updated < cardinality(state_ids) THEN
        -- Those that were just updated do not change by this.
        INSERT INTO series_state AS state (series_id, last_time, last_value, received_at)
        SELECT series_id, from_us(us), value, now()
          FROM unnest(state_ids, state_times_us, state_values) AS new (series_id, us, value)
        ON CONFLICT (series_id) DO UPDATE SET
            last_value = CASE WHEN excluded.last_time > state.last_time THEN excluded.last_value
                              ELSE state.last_value END,
            last_time = greatest(state.last_time, excluded.last_time),
            received_at = excluded.received_at, only_imported = FALSE;
    END IF;
END $$;

-- Writes all rows that follow from new readings. Returns the ids of the feed row and of the legacy records.
CREATE FUNCTION record_readings_1(
    stored int,  -- number of new readings
    late_days date[], late_oldest_us bigint[],  -- days, with the time of the oldest reading of each
    state_ids int[], state_times_us bigint[], state_values float8[],  -- the newest reading of each series, by series
    dirty_summaries bytea[], dirty_late boolean[],
    payload_parts bytea[],  -- of the feed row; between two of them comes the id of a legacy record
    legacy_sensors text[], legacy_times_us bigint[], legacy_temperatures float8[], legacy_humidities float8[],
    legacy_pressures float8[], legacy_client_ips text[],
    OUT feed_id bigint,
    OUT legacy_ids bigint[],
    OUT version bigint  -- of the sensors, read as late as possible: what changes from then on finds this flush committed
) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO late_day (day)
    SELECT day FROM unnest(late_days, late_oldest_us) AS touched (day, oldest_us)
     WHERE from_us(oldest_us) < late_before();

    INSERT INTO dirty (summaries, late)
    SELECT summaries, late
      FROM unnest(dirty_summaries, dirty_late) AS touched (summaries, late)
     ORDER BY late;

    IF cardinality(legacy_sensors) > 0 THEN
        WITH inserted AS (
            INSERT INTO legacy_reading (sensor, time, temperature, humidity, pressure, client_ip)
            SELECT sensor, from_us(us), temperature, humidity, pressure, client_ip
              FROM unnest(legacy_sensors, legacy_times_us, legacy_temperatures, legacy_humidities,
                          legacy_pressures, legacy_client_ips)
                   AS new (sensor, us, temperature, humidity, pressure, client_ip)
            RETURNING id
        )
        SELECT array_agg(id ORDER BY id) INTO legacy_ids FROM inserted;
    END IF;

    INSERT INTO feed (kind, n, payload)
    SELECT 'readings', stored, string_agg(part || coalesce(convert_to(id::text, 'UTF8'), ''), '' ORDER BY place)
      FROM unnest(payload_parts, legacy_ids) WITH ORDINALITY AS piece (part, id, place)
    RETURNING id INTO feed_id;

    -- Last, because its row locks make other flushes wait.
    PERFORM update_series_state_1(state_ids, state_times_us, state_values);
    SELECT sensor_version.version INTO version FROM sensor_version;
END $$;

-- As store_small_flush_2, which is dropped a release later.
CREATE FUNCTION store_small_flush_3(
    known_version bigint,  -- of the sensors
    any_decompression boolean,
    series_ids int[], times_us bigint[], reading_values float8[],  -- sorted by UTC day, series and time
    late_days date[], late_oldest_us bigint[],  -- from here on to client addresses as in record_readings_1
    state_ids int[], state_times_us bigint[], state_values float8[],
    dirty_summaries bytea[], dirty_late boolean[],
    payload_parts bytea[],
    legacy_sensors text[], legacy_times_us bigint[], legacy_temperatures float8[], legacy_humidities float8[],
    legacy_pressures float8[], legacy_client_ips text[],
    answer_labels text[], answer_keys text[], answer_hashes bytea[],  -- sorted by label and key
    answers_if_new text[], answers_have_seq boolean[], answers_if_stored text[],
    OUT seq bigint,  -- null if nothing was new
    OUT legacy_ids bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    stored int;
    new_feed_id bigint;
BEGIN
    IF any_decompression THEN
        PERFORM set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', TRUE);
    END IF;
    WITH inserted AS (
        INSERT INTO reading (series_id, time, value)
        SELECT series_id, from_us(us), value
          FROM unnest(series_ids, times_us, reading_values) AS new (series_id, us, value)
        ON CONFLICT (series_id, time) DO NOTHING
        RETURNING 1
    )
    SELECT count(*) INTO stored FROM inserted;
    IF stored NOT IN (0, cardinality(series_ids)) THEN
        RAISE EXCEPTION 'some of these readings are stored' USING ERRCODE = 'TG001';
    END IF;

    IF stored > 0 THEN
        SELECT recorded.feed_id, recorded.legacy_ids INTO new_feed_id, legacy_ids
          FROM record_readings_1(
                   stored, late_days, late_oldest_us, state_ids, state_times_us, state_values, dirty_summaries,
                   dirty_late, payload_parts, legacy_sensors, legacy_times_us, legacy_temperatures, legacy_humidities,
                   legacy_pressures, legacy_client_ips
               ) AS recorded;
    END IF;

    IF cardinality(answer_keys) > 0 THEN
        WITH inserted AS (
            INSERT INTO idempotency (api_key, key, body_sha256, answer, feed_id)
            SELECT label, key, sha256, CASE WHEN new_feed_id IS NULL THEN if_stored ELSE if_new END::jsonb,
                   CASE WHEN has_seq THEN new_feed_id END
              FROM unnest(answer_labels, answer_keys, answer_hashes, answers_if_new, answers_have_seq,
                          answers_if_stored) AS new (label, key, sha256, if_new, has_seq, if_stored)
            ON CONFLICT (api_key, key) DO NOTHING
            RETURNING 1
        )
        SELECT count(*) INTO stored FROM inserted;
        IF stored < cardinality(answer_keys) THEN
            RAISE EXCEPTION 'an answer was stored by another process' USING ERRCODE = 'TG002';
        END IF;
    END IF;

    -- As late as possible: what changes from here on finds this flush committed.
    IF known_version <> (SELECT version FROM sensor_version) THEN
        RAISE EXCEPTION 'sensors have changed' USING ERRCODE = 'TG003';
    END IF;
    IF new_feed_id IS NOT NULL THEN
        SET CONSTRAINTS feed_publish IMMEDIATE;
        seq := currval('feed_seq');
    END IF;
END $$;
