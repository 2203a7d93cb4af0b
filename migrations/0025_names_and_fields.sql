-- Names in queries are read as those in uploads: in Unicode's form NFC, without the blanks around them. And the fields that
-- were left out of each gateway's uploads.

-- As tidy_name in app/names.py has it.
CREATE FUNCTION tidy_name(name text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN btrim(normalize(name, NFC), E' \t\n\x0b\f\r\x1c\x1d\x1e\x1f\u0085\u00a0\u1680\u2000\u2001\u2002\u2003'
        '\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000');

-- As in 0011. A name as it stands goes before the same name in another form.
CREATE OR REPLACE FUNCTION find_sensor(wanted text) RETURNS int
    LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC
        SELECT coalesce(
            (SELECT id FROM sensor WHERE name = wanted),
            (SELECT sensor_id FROM sensor_alias WHERE name = wanted),
            (SELECT id FROM sensor WHERE name = tidy_name(wanted)),
            (SELECT sensor_id FROM sensor_alias WHERE name = tidy_name(wanted))
        );
    END;

-- Uploads wait until this is done, and processes under way load the names anew.
LOCK TABLE sensor, series IN SHARE ROW EXCLUSIVE MODE;
UPDATE sensor_version SET version = version + 1;

-- A silence goes on for a sensor that is named anew below.
UPDATE silence SET matchers = jsonb_set(matchers, '{sensor}', to_jsonb(tidy_name(matchers ->> 'sensor')))
 WHERE ends_at > now() AND matchers ->> 'sensor' <> tidy_name(matchers ->> 'sensor');

-- Earlier releases stored names as they were sent. Where the tidy name is free, uploads would register it anew.
UPDATE sensor SET name = tidied.name
  FROM (
      SELECT DISTINCT ON (tidy_name(name)) id, tidy_name(name) AS name FROM sensor WHERE name <> tidy_name(name)
       ORDER BY tidy_name(name), id
  ) AS tidied
 WHERE sensor.id = tidied.id AND tidied.name <> ''
   AND NOT EXISTS (SELECT FROM sensor AS other WHERE other.name = tidied.name)
   AND NOT EXISTS (SELECT FROM sensor_alias AS other WHERE other.name = tidied.name);

UPDATE sensor_alias SET name = tidied.name
  FROM (
      SELECT DISTINCT ON (tidy_name(name)) name AS old, tidy_name(name) AS name
        FROM sensor_alias WHERE name <> tidy_name(name)
       ORDER BY tidy_name(name), sensor_id
  ) AS tidied
 WHERE sensor_alias.name = tidied.old AND tidied.name <> ''
   AND NOT EXISTS (SELECT FROM sensor AS other WHERE other.name = tidied.name)
   AND NOT EXISTS (SELECT FROM sensor_alias AS other WHERE other.name = tidied.name);

UPDATE series SET metric = tidied.metric
  FROM (
      SELECT DISTINCT ON (sensor_id, tidy_name(metric)) id, sensor_id, tidy_name(metric) AS metric
        FROM series WHERE metric <> tidy_name(metric)
       ORDER BY sensor_id, tidy_name(metric), id
  ) AS tidied
 WHERE series.id = tidied.id AND tidied.metric <> ''
   AND NOT EXISTS (
       SELECT FROM series AS other WHERE other.sensor_id = tidied.sensor_id AND other.metric = tidied.metric
   );

UPDATE sensor SET gateway = tidy_name(gateway), owner = tidy_name(owner)
 WHERE (gateway, owner) IS DISTINCT FROM (tidy_name(gateway), tidy_name(owner));

UPDATE api_key SET gateway = tidy_name(gateway) WHERE gateway <> tidy_name(gateway);

UPDATE gateway SET name = tidied.name
  FROM (
      SELECT DISTINCT ON (api_key, tidy_name(name)) api_key, name AS old, tidy_name(name) AS name
        FROM gateway WHERE name <> tidy_name(name)
       ORDER BY api_key, tidy_name(name), last_upload_at DESC
  ) AS tidied
 WHERE gateway.api_key = tidied.api_key AND gateway.name = tidied.old
   AND NOT EXISTS (SELECT FROM gateway AS other WHERE other.api_key = tidied.api_key AND other.name = tidied.name);

-- An open alert goes on. Where one of the same rule is open under the tidy name already, it ends by itself.
UPDATE alert_episode AS episode SET gateway = tidy_name(episode.gateway)
 WHERE episode.gateway <> tidy_name(episode.gateway)
   AND NOT EXISTS (
       SELECT FROM alert_episode AS other
        WHERE other.id <> episode.id AND other.rule = episode.rule AND other.resolved_at IS NULL
          AND tidy_name(other.gateway) = tidy_name(episode.gateway)
   );

ALTER TABLE gateway
    -- Fields that no format has -> how often they were left out of uploads; at most 20.
    ADD COLUMN unknown_fields jsonb NOT NULL DEFAULT '{}',
    -- The last upload that had one.
    ADD COLUMN unknown_fields_at timestamptz;
