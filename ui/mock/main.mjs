// `npm run mock`: the demo shop at http://127.0.0.1:8499, signed in. Build the page first, or use `npm run dev` beside it.
import { start } from './server.mjs';

const { url } = await start({ port: Number(process.env.PORT ?? 8499), open: true });
console.log(`mock mesh at ${url}`);
