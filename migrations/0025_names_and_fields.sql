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

-- Earlier releases stored names as they were sent. Where the tidy name is free, uploads would register it anew.
UPDATE sensor SET name = tidied.name
  FROM (
      SELECT DISTINCT ON (tidy_name(name)) id, tidy_name(name) AS name FROM sensor WHERE name <> tidy_name(name)
       ORDER BY tidy_name(name), id
  ) AS tidied
 WHERE sensor.id = tidied.id AND tidied.name <> ''
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

ALTER TABLE gateway
    -- Fields that no format has -> how often they were left out of uploads; at most 20.
    ADD COLUMN unknown_fields jsonb NOT NULL DEFAULT '{}',
    -- The last upload that had one.
    ADD COLUMN unknown_fields_at timestamptz;
