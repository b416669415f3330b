# Counts what comes in on standard input.
cat > input.json
echo "bytes  $(wc -c < input.json)"
echo "steps  $(grep -o '"key"' input.json | wc -l)"
echo "kinds  $(grep -o '"key": *"[a-z0-9A-Z]*_' input.json | sort -u | wc -l)"
