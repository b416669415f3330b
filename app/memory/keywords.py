"""stub"""

from sqlalchemy import text


def candidates(db, wanted, query, limit):
    c, p = wanted.where()
    return [
        tuple(r)
        for r in db.execute(
            text(
                f"SELECT m.id, ts_rank(m.keywords,q)::float8 FROM memory m, (SELECT replace(plainto_tsquery('english', :q)::text,'&','|')::tsquery q) x WHERE m.keywords @@ q AND {c} ORDER BY 2 DESC LIMIT :l"
            ),
            p | {"q": query, "l": limit},
        )
    ]
